"""What measures are tried on: ``python -m benchmarks.measure_data ink-hands-1 ... --out DIR``, minutes on a GPU.

For each LoRA that is overfit to one defect: pictures under random vectors, on the prompts of a search and on others,
the training pictures, and the base's own pictures of their captions. Kept of each, as one ``NAME.npz``: the pictures
(JPEG), what the judge reads, statistics of the base's activations in every block (of the whole picture and of sixteen
tiles) and how well the base denoises the picture with its prompt, another one and none. A further ``votes`` part holds
the judge's readings alone, of many vectors. The file is small enough to be fetched from another machine, so that
measures can be compared without a GPU.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from benchmarks.defect_loras import defect_lora
from benchmarks.vector_pictures import (
    BLOCKS,
    SEARCH_PROMPTS,
    SEARCH_SEEDS,
    TEST_PROMPTS,
    TEST_SEEDS,
    draw_vectors,
    jobs_of,
    random_vectors,
)
from loratools.base.generate import PictureRequest, generate
from loratools.base.load import load_base
from loratools.base.model import Base
from loratools.base.prompt.conditioning import condition
from loratools.base.sampling.sample import plain_unet, unet_conditions
from loratools.base.vae import encode
from loratools.files import replacing
from loratools.measures.pictures import read_shown
from loratools.pocket.draw import asked_tags
from loratools.pocket.draw.stylebook import STYLES
from loratools.pocket.judge import Judge
from loratools.train.step.objective import noise_schedule, noised, target

Arrays = dict[str, npt.NDArray[np.generic]]
TILES = 4  # down and across
TILED = ("down0", "up3")
LOW = ("down0", "down1", "up2", "up3")  # of these alone at the first time
TIMES = (60, 200)
SHOWN = 6  # vectors of which the pictures themselves are kept
LOSS_TIMES = (250, 450, 650, 850)
VOTE_VECTORS = 500
_AT_ONCE = 64


@dataclass(frozen=True)
class Task:
    """One LoRA, by its name ``STYLE-DEFECT-SEED``, and how much is made of it."""

    name: str
    work: Path
    out: Path
    device: str
    quick: bool


def main() -> None:
    """Make what is missing, in several processes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="+", metavar="STYLE-DEFECT-SEED")
    parser.add_argument("--work", type=Path, required=True, help="LoRAs and pictures are kept there")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="a few pictures: does it run?")
    args = parser.parse_args()
    tasks = [Task(name, args.work, args.out, args.device, args.quick) for name in args.names]
    if args.jobs == 1:
        for task in tasks:
            print(make(task), flush=True)
        return
    with ProcessPoolExecutor(args.jobs, mp_context=get_context("spawn")) as pool:
        for line in pool.map(make, tasks):
            print(line, flush=True)


def make(task: Task) -> str:
    """Everything about one LoRA; what is there is kept."""
    begun = time.perf_counter()
    file = task.out / f"{task.name}.npz"
    if file.is_file():
        return f"{task.name}: there"
    if task.device != "cpu":
        torch.set_num_threads(1)  # several processes share the cores, and wait for the GPU
    style, defect, seed = task.name.split("-")
    lora = defect_lora(style, defect, int(seed), task.work / task.name, task.device)
    trained = time.perf_counter() - begun
    base, few = load_base("pocket", device=task.device), task.quick
    tag = STYLES[style].tag
    sets = {
        "search": (_with_base(25 if not few else 2, 1), jobs_of(SEARCH_PROMPTS, SEARCH_SEEDS)),
        "test": (_with_base(17 if not few else 2, 2), jobs_of(TEST_PROMPTS, TEST_SEEDS)),
    }
    reader = _Reader(base)
    kept: Arrays = {}
    for part, (vectors, jobs) in sets.items():
        asked = [(f"{tag}, {prompt}" if tag else prompt, s) for prompt, s in jobs[: 2 if few else None]]
        pixels = draw_vectors(base, lora.file, vectors, asked)
        prompts = [prompt for prompt, _ in asked] * len(vectors)
        kept |= {
            f"{part}.{name}": own for name, own in reader.all(pixels.reshape(-1, *pixels.shape[2:]), prompts).items()
        }
        kept |= {f"{part}.vectors": vectors, f"{part}.prompts": np.array(prompts)}
        kept[f"{part}.seeds"] = np.array([s for _, s in asked] * len(vectors))
    shown = read_shown(lora.images)[: 2 if few else None]
    captions = [each.prompt for each in shown]
    kept |= {f"training.{n}": own for n, own in reader.all(np.stack([each.pixels for each in shown]), captions).items()}
    own = np.concatenate(
        [generate(base, [_request(base, p, 2000 + 50 * k + n) for n, p in enumerate(captions)]) for k in (0, 1)]
    )
    kept |= {f"captioned.{name}": values for name, values in reader.all(own, captions * 2).items()}
    kept["captions"] = np.array(captions)
    vectors = _with_base(VOTE_VECTORS if not few else 3, 3)
    asked = [(f"{tag}, {prompt}" if tag else prompt, 7) for prompt in SEARCH_PROMPTS[1:]]
    pixels = draw_vectors(base, lora.file, vectors, asked)
    read = reader.judged(pixels.reshape(-1, *pixels.shape[2:]), [prompt for prompt, _ in asked] * len(vectors))
    kept |= {f"votes.{name}": values for name, values in read.items()} | {"votes.vectors": vectors}
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as half, half.open("wb") as stream:
        np.savez_compressed(stream, **kept)  # type: ignore[arg-type]  # numpy's stub takes every keyword for its flag
    seconds, size = time.perf_counter() - begun, file.stat().st_size >> 10
    return f"{task.name}: trained {trained:.0f} s, all {seconds:.0f} s, {size} KiB"


def _with_base(count: int, seed: int) -> npt.NDArray[np.float64]:
    """The base itself, the whole LoRA, and random vectors."""
    return np.concatenate([np.zeros((1, len(BLOCKS))), random_vectors(count, seed)])


def _request(base: Base, prompt: str, seed: int) -> PictureRequest:
    return PictureRequest(prompt, "", base.resolution, seed, 12, base.defaults.cfg, "DDIM")


class _Reader:
    """Everything that is kept of pictures (n, h, w, 3)."""

    def __init__(self, base: Base) -> None:
        self._base, self._judge = base, Judge.load()
        self._schedule = noise_schedule(base.scheduler_config).to(base.device)

    def all(self, pixels: npt.NDArray[np.uint8], prompts: Sequence[str]) -> Arrays:
        """Pictures as JPEG, the judge's readings, statistics and losses."""
        parts = [
            self._seen(pixels[n : n + _AT_ONCE], prompts[n : n + _AT_ONCE]) for n in range(0, len(pixels), _AT_ONCE)
        ]
        seen = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        return {"jpeg": _packed(pixels[: 8 * SHOWN]), **self.judged(pixels, prompts), **seen}

    def judged(self, pixels: npt.NDArray[np.uint8], prompts: Sequence[str]) -> Arrays:
        """``faults`` (n, 5), ``styles`` (n, 7) in the judge's order, ``tags`` (n,)."""
        readings = self._judge.read([Image.fromarray(own) for own in pixels])
        return {
            "faults": np.array([list(reading.faults.values()) for reading in readings], dtype=np.float32),
            "styles": np.array([list(reading.style.values()) for reading in readings], dtype=np.float32),
            "tags": np.array(
                [r.obeys(asked_tags(p)) for r, p in zip(readings, prompts, strict=True)], dtype=np.float32
            ),
        }

    @torch.no_grad()
    def _seen(self, pixels: npt.NDArray[np.uint8], prompts: Sequence[str]) -> Arrays:
        base = self._base
        tensor = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
        latents = (encode(base.vae, tensor).mean * base.vae.config.scaling_factor).float()
        generator = torch.Generator().manual_seed(0)
        noises = torch.randn((8, *latents.shape[1:]), generator=generator).to(latents.device)
        size = tensor.shape[2], tensor.shape[3]
        kept: dict[str, Tensor] = {"latent.tiles": _tiles(latents)}
        null, _ = unet_conditions(base, condition(base, [""]), size)
        for t in TIMES:
            activations = self._activations(latents, noises[:1], t, null.expand(len(latents), -1, -1))
            wanted = LOW if t == TIMES[0] else activations
            kept |= {f"{name}.{t}": _statistics(activations[name]) for name in wanted}
            if t == TIMES[0]:
                kept |= {f"{name}.tiles": _tiles(own) for name, own in activations.items() if name in TILED}
        others = [prompts[(n + len(prompts) // 2 + 1) % len(prompts)] for n in range(len(prompts))]
        for name, texts in (("own", prompts), ("other", others), ("none", [""] * len(prompts))):
            hidden, _ = unet_conditions(base, condition(base, texts), size)
            kept[f"loss.{name}"] = torch.stack(
                [self._loss(latents, noises[[n]], t, hidden) for n, t in enumerate(LOSS_TIMES)], 1
            )
        return {
            name: own.float().cpu().numpy().astype(np.float16 if "loss" not in name else np.float32)
            for name, own in kept.items()
        }

    def _activations(self, latents: Tensor, noise: Tensor, t: int, hidden: Tensor) -> dict[str, Tensor]:
        unet = self._base.unet
        kept: dict[str, Tensor] = {}
        blocks = {f"down{n}": own for n, own in enumerate(unet.down_blocks)}
        blocks |= {"mid": unet.mid_block, **{f"up{n}": own for n, own in enumerate(unet.up_blocks)}}

        def keep(name: str) -> object:
            return lambda _m, _i, output: kept.__setitem__(name, output[0] if isinstance(output, tuple) else output)

        hooks = [block.register_forward_hook(keep(name)) for name, block in blocks.items()]
        self._predict(latents, noise, t, hidden)
        for hook in hooks:
            hook.remove()
        return kept

    def _predict(self, latents: Tensor, noise: Tensor, t: int, hidden: Tensor) -> Tensor:
        times = torch.full((len(latents),), t, device=latents.device)
        seen = noised(self._schedule, latents, noise.expand(latents.shape), times)
        return plain_unet(self._base)(seen.to(self._base.dtype), times, hidden, None).float()

    def _loss(self, latents: Tensor, noise: Tensor, t: int, hidden: Tensor) -> Tensor:
        """(b,)"""
        times = torch.full((len(latents),), t, device=latents.device)
        wanted = target(self._schedule, latents, noise.expand(latents.shape), times)
        return (self._predict(latents, noise, t, hidden) - wanted).square().mean((1, 2, 3))


def _statistics(activations: Tensor) -> Tensor:
    """(b, 4 c): mean, spread, highest and lowest sixteenth."""
    flat = activations.float().flatten(2)
    extreme = max(1, flat.shape[2] // 16)
    ordered = flat.sort(dim=2).values
    parts = (flat.mean(2), flat.std(2, correction=0), ordered[..., -extreme:].mean(2), ordered[..., :extreme].mean(2))
    return torch.cat(parts, 1)


def _tiles(activations: Tensor) -> Tensor:
    """(b, 2 c, tiles): mean and spread of each channel in each tile."""
    values = activations.float()
    b, c, h, w = values.shape
    cut = (
        values.reshape(b, c, TILES, h // TILES, TILES, w // TILES).permute(0, 1, 2, 4, 3, 5).reshape(b, c, TILES**2, -1)
    )
    return torch.cat([cut.mean(3), cut.std(3, correction=0)], 1)


def _packed(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """All pictures as one JPEG, one below another."""
    stream = io.BytesIO()
    Image.fromarray(pixels.reshape(-1, *pixels.shape[2:])).save(stream, "JPEG", quality=88)
    return np.frombuffer(stream.getvalue(), dtype=np.uint8)


def unpacked(kept: Mapping[str, npt.NDArray[np.generic]], part: str) -> npt.NDArray[np.uint8]:
    """The pictures (n, h, w, 3) of a part."""
    whole = np.asarray(Image.open(io.BytesIO(kept[f"{part}.jpeg"].tobytes())))
    return whole.reshape(-1, whole.shape[1], whole.shape[1], 3)


if __name__ == "__main__":
    main()
