"""The ways in which an engine can draw, and pictures drawn in each: what the parity of pictures compares."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray

from loratools.adapter.architectures.names import is_text
from loratools.adapter.files.file import read
from loratools.base.model import Base
from loratools.base.patching.batched_lora import BatchedLora
from loratools.base.quiet import quiet
from loratools.base.sampling.noise import initial_latents
from loratools.base.sampling.noise_kinds import OWN
from loratools.base.sampling.samplers import find_sampler
from loratools.blocks.parse import parse_vector
from loratools.blocks.presets import load_presets
from loratools.ops.merging.combine import combine
from loratools.ops.merging.merge import merge_files
from loratools.ops.merging.terms import Term
from loratools.preview.plan.jobs import Stack, content_keys_of
from loratools.preview.record.cells import SamplingSettings
from loratools.preview.render import device_memory
from loratools.preview.render.memory import need
from loratools.preview.render.population import PictureJob, PopulationRenderer
from loratools.preview.request.options import EngineOptions

PROMPTS = ("1girl, red hair, smile", "full body, blue eyes, sunset")
SEEDS = (11, 12)
SAMPLER, STEPS, CFG = "DDIM", 8, 3.0  # strong guidance on few steps multiplies rounding itself
VECTORS = {"sd1": ("GP1", "GP2"), "sdxl": ("1,0.5,1,0,1,0.7,1,0,0.4,1,0.3,1", "0.2,1,0,1,0.5,1,1,0,1,0,1,0.6")}
_ROOM = 256 << 20  # bytes that a capped engine has beyond one picture's: cuDNN's workspaces

Pictures = NDArray[np.int64]  # (stacks, jobs, height, width, 3), 0 to 255


@dataclass(frozen=True)
class EnginePath:
    """One way of drawing.

    Args:
        shared: whether rows of a mixed batch share factors; None as the engine chooses.
        capped: with memory for little more than one picture.
    """

    name: str
    options: EngineOptions
    shared: bool | None = None
    capped: bool = False


PLAIN = EnginePath("patched", EngineOptions(mixed=False, fused=False, compiled=False, graphs=False))
PATHS = (
    PLAIN,
    EnginePath("one graph", EngineOptions(mixed=False, fused=False, compiled=False)),
    EnginePath("channels last", EngineOptions(mixed=False, fused=True, compiled=False)),
    EnginePath("mixed, factors by row", EngineOptions(mixed=True, fused=False, compiled=False), shared=False),
    EnginePath("mixed, factors shared", EngineOptions(mixed=True, fused=False, compiled=False), shared=True),
    EnginePath("mixed, channels last", EngineOptions(mixed=True, fused=True, compiled=False)),
    EnginePath("compiled", EngineOptions(mixed=False, fused=True, compiled=True)),
    EnginePath("compiled, mixed", EngineOptions(mixed=True, fused=True, compiled=True)),
    EnginePath("offload, sliced", EngineOptions(offload=True, sliced=True, compiled=False)),
    EnginePath("capped", EngineOptions(compiled=False), capped=True),
)


@dataclass(frozen=True)
class Files:
    """Two LoRAs as a weighted sum with block vectors, and the file that merging them writes.

    Args:
        terms: the sum.
        merged: its file, in float32 and Diffusers' spelling.
    """

    terms: tuple[Term, ...]
    merged: Path

    @staticmethod
    def of(base: Base, loras: Sequence[Path], folder: Path) -> Files:
        """The sum of ``loras`` on a base of their family, merged into ``folder``."""
        presets = load_presets()
        parts = zip(loras, (1.0, -0.6), VECTORS[base.family], strict=True)
        terms = tuple(
            Term(read(path), weight, parse_vector(vector, presets, base.family), label=path.stem)
            for path, weight, vector in parts
        )
        merged = folder / "merged.safetensors"
        merge_files(terms, merged, dtype=torch.float32, force=True)
        return Files(terms, merged)

    def stacks(self) -> list[Stack]:
        """The base alone, then the sum as it stands and its file, each at two weights."""
        live, file = combine(self.terms), read(self.merged)
        return [Stack()] + [
            Stack(deltas, weight, name, content_keys_of(deltas))
            for weight in (1.0, -0.5)
            for name, deltas in (("live", live), ("file", file))
        ]


def draw(base: Base, path: EnginePath, files: Files, size: tuple[int, int], said: list[str]) -> Pictures:
    """Every stack of ``files`` for every prompt and seed.

    Args:
        said: what the engine says is appended.
    """
    settings = SamplingSettings(STEPS, CFG, SAMPLER, size)
    jobs = [PictureJob(prompt, seed, settings) for prompt, seed in zip(PROMPTS, SEEDS, strict=True)]
    stacks = files.stacks()
    with (
        _sharing(path.shared),
        _capped(base, size) if path.capped else contextlib.nullcontext(),
        PopulationRenderer(base, path.options, say=said.append) as renderer,
    ):
        made = np.stack([picture.pixels.astype(np.int64) for picture in renderer.draw(stacks, jobs)])
    return made.reshape(len(stacks), len(jobs), *made.shape[1:])


def diffusers_pictures(place: Path, base: Base, files: Files, size: tuple[int, int]) -> Pictures:
    """What diffusers' own pipeline, with its own loader of the merged file, draws where :func:`draw` has the file:
    (3, jobs, h, w, 3) of the base alone and of both weights, in the base's dtype on its device."""
    with quiet():
        from diffusers import AutoencoderKL, DiffusionPipeline

        pipe: Any = DiffusionPipeline.from_pretrained(place, torch_dtype=base.dtype, local_files_only=True)
    pipe.to(base.device)
    pipe.vae = AutoencoderKL.from_pretrained(place, subfolder="vae", torch_dtype=base.vae.dtype).to(base.device)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = find_sampler(SAMPLER).scheduler(base.scheduler_config)
    noise = torch.cat([initial_latents(OWN, seed, size) for seed in SEEDS]).to(base.device, base.dtype)

    def drawn() -> NDArray[np.int64]:
        latents = pipe(
            list(PROMPTS),
            num_inference_steps=STEPS,
            guidance_scale=CFG,
            height=size[0],
            width=size[1],
            latents=noise.clone(),
            output_type="latent",
        ).images
        with torch.no_grad():  # in the VAE's own number type, which may be another one than the pipeline's
            scaled = latents.to(pipe.vae.dtype) / pipe.vae.config.scaling_factor
            images = pipe.image_processor.postprocess(pipe.vae.decode(scaled).sample, output_type="np")
        levels: NDArray[np.int64] = np.rint(np.asarray(images) * 255).astype(np.int64)
        return levels

    made = [drawn()]
    with quiet():
        pipe.load_lora_weights(files.merged.parent, weight_name=files.merged.name, adapter_name="x")
        for weight in (1.0, -0.5):
            pipe.set_adapters(["x"], [weight])
            made.append(drawn())
    return np.stack(made)


@contextlib.contextmanager
def _sharing(shared: bool | None) -> Iterator[None]:
    """Rows of mixed batches share factors, or do not, whatever would be faster."""
    if shared is None:
        yield
        return
    with mock.patch.object(BatchedLora, "shared", property(lambda _: shared)):
        yield


@contextlib.contextmanager
def _capped(base: Base, size: tuple[int, int]) -> Iterator[None]:
    """The device has memory for one picture and a little; a CPU is only told that it has none."""
    if base.device.type != "cuda":
        with mock.patch.object(device_memory, "available", lambda _: 0):
            yield
        return
    torch.cuda.empty_cache()
    touched = sum(own.nbytes for name, own in base.unet.named_parameters() if not is_text(name))
    limit = torch.cuda.memory_allocated(base.device) + need(base, 1, size, 1, touched).more + _ROOM
    total = torch.cuda.get_device_properties(base.device).total_memory
    torch.cuda.set_per_process_memory_fraction(limit / total, base.device)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, base.device)
