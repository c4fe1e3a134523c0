"""What the parts of the previews benchmark share: how large everything is, random models and LoRAs, figures."""

from __future__ import annotations

import copy
import gc
import math
import os
import pkgutil
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray

from loratools.adapter.algebra.lowrank import LowRank
from loratools.adapter.architectures.names import lora_targets
from loratools.adapter.files.file import read
from loratools.adapter.files.save import write
from loratools.base.model import Base
from loratools.base.patching.patch import live_modules
from loratools.base.quiet import quiet
from loratools.base.sampling.samplers import find_sampler
from loratools.base.text_model import load_tokenizer
from loratools.pocket import weights_folder
from loratools.pocket.architecture import Widths, scheduler_config, text_config, unet_config, vae_config
from loratools.preview.plan.jobs import GridJob, PictureFile, Stack, content_keys_of
from loratools.preview.record.cells import SamplingSettings
from loratools.preview.render.host_pixels import HostPixels
from loratools.preview.request.options import EngineOptions
from loratools.preview.request.request import SamplingRequest
from loratools.preview.request.rows import GridRow
from loratools.preview.run import GridResult, render_grid
from tests.tiny import TINY as SMALL

ROOT = Path(__file__).parents[2]
PROMPT = "1girl, cowboy_shot, blue_hair, twintails, green_eyes, white_clothes, sailor_collar, waving, smile, grass"
PROMPTS = (
    PROMPT,
    "1girl, full_body, red_hair, long_hair, blue_eyes, black_clothes, dress, arms_up, open_mouth, sunset",
    "1girl, full_body, brown_hair, ponytail, brown_eyes, blue_clothes, hoodie, spread_arms, smile, indoors",
    "1girl, cowboy_shot, black_hair, short_hair, red_eyes, red_clothes, t-shirt, peace_sign, wink, simple_background",
)
SAMPLER, CFG = "DPM++ 2M", 7.0
SD15 = Widths(
    unet=(320, 640, 1280, 1280),
    heads=8,
    vae=(128, 256, 512, 512),
    vae_groups=32,
    text=768,
    text_layers=12,
    resolution=512,
)


@dataclass(frozen=True)
class Scale:
    """How large everything is: the model, its vocabulary, LoRA rank, epochs, weights, steps, and repetitions."""

    widths: Widths
    vocabulary: int
    rank: int
    epochs: int
    weights: tuple[float, ...]
    steps: int
    theirs: int  # epochs that diffusers renders; its time for a cell does not depend on which
    four: int  # epochs of the grid with four prompts
    shard: int  # epochs of the sharded grid
    repeats: int


FULL = Scale(
    widths=SD15,
    vocabulary=49408,
    rank=32,
    epochs=10,
    weights=tuple(n / 10 for n in range(11)),
    steps=20,
    theirs=2,
    four=2,
    shard=8,
    repeats=8,
)
TINY = Scale(
    widths=SMALL,
    vocabulary=2000,
    rank=2,
    epochs=2,
    weights=(0.0, 0.5, 1.0),
    steps=2,
    theirs=1,
    four=1,
    shard=2,
    repeats=2,
)


@dataclass(frozen=True)
class Figure:
    """One line of the report: what was measured, in what unit, and the bar that it should meet."""

    name: str
    value: float
    unit: str = "s"
    bar: str = ""
    met: bool | None = None
    note: str = ""

    def text(self) -> str:
        verdict = "" if self.met is None else ("  [met]" if self.met else "  [MISSED]")
        bar = f"   bar: {self.bar}" if self.bar else ""
        return f"{self.name:<68} {self.value:10.4g} {self.unit}{bar}{verdict}{'   ' + self.note if self.note else ''}"


Figures = Iterator[Figure]
Moment = tuple[float, int]  # seconds, and pictures that had come to rest by then


class Bench:
    """What the parts share: the model, LoRA files, and seconds that earlier parts measured."""

    def __init__(self, scale: Scale, device: torch.device, work: Path) -> None:
        self.scale, self.device, self.work = scale, device, work
        self.dtype = torch.float16 if device.type == "cuda" else torch.float32
        self.seconds: dict[str, float] = {}
        self.xl: Base | None = None  # a random SDXL, once a part has made one

    @cached_property
    def base(self) -> Base:
        return random_base(self.scale, self.device, self.dtype)

    @cached_property
    def files(self) -> list[Path]:
        """The epochs' LoRA files, of kohya's layout, in fp16."""
        return [
            random_lora(self.base, self.work / f"style-{n:06d}.safetensors", self.scale.rank, n)
            for n in range(1, self.scale.epochs + 1)
        ]

    def rows(self, count: int) -> list[GridRow]:
        return [GridRow.of_file(read(path)) for path in self.files[:count]]

    def grid(
        self, rows: Sequence[GridRow], prompts: Sequence[str], name: str, options: EngineOptions | None = None
    ) -> tuple[GridResult, list[Moment]]:
        """A rendered grid, and when how many of its pictures had come to rest, in seconds from the start."""
        start, at = time.perf_counter(), []
        result = render_grid(
            self.base,
            rows,
            self.scale.weights,
            prompts,
            out=self.work / name,
            sampling=SamplingRequest(steps=self.scale.steps, cfg=CFG, sampler=SAMPLER),
            options=options,
            force=True,
            on_picture=lambda done, total: at.append((time.perf_counter() - start, done)),
        )
        return result, at

    def sync(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def clear(self) -> None:
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def random_base(scale: Scale, device: torch.device, dtype: torch.dtype) -> Base:
    """A random model of SD 1's tree, made on the device; the tokenizer is the pocket's."""
    with quiet():
        from diffusers import AutoencoderKL, UNet2DConditionModel
        from transformers import CLIPTextConfig, CLIPTextModel

    widths = scale.widths
    tokenizer = load_tokenizer(weights_folder() / "tokenizer")
    vocabulary = max(scale.vocabulary, len(tokenizer))
    text = text_config(widths, vocabulary, tokenizer.bos_token_id, tokenizer.eos_token_id)
    text["num_attention_heads"] = max(1, widths.text // 64)
    torch.manual_seed(0)
    with quiet(), torch.device(device):
        unet = UNet2DConditionModel(**unet_config(widths)).to(dtype)
        vae = AutoencoderKL(**vae_config(widths, 0.18215)).to(dtype)
        encoder = CLIPTextModel(CLIPTextConfig(**text)).to(dtype)
    for part in (unet, vae, encoder):
        part.to(device).eval().requires_grad_(False)
    side = widths.resolution
    return Base(
        unet=unet,
        vae=vae,
        text_encoders=(encoder,),
        tokenizers=(tokenizer,),
        scheduler_config=scheduler_config(),
        family="sd1",
        digest="0" * 64,
        name="random",
        resolution=(side, side),
        device=device,
        dtype=dtype,
    )


def random_lora(base: Base, path: Path, rank: int, seed: int, strength: float = 0.3) -> Path:
    """A LoRA on every usual module, each difference about ``strength`` times the spread of its weight."""
    modules = live_modules(base)
    generator = torch.Generator(base.device).manual_seed(seed)
    deltas = {}
    for name in lora_targets(base.family, modules):
        weight: Any = modules[name].weight
        rows, columns = weight.shape[0], math.prod(weight.shape[1:])
        size = (strength * float(weight.float().std()) / math.sqrt(rank)) ** 0.5
        up = torch.randn(rows, rank, generator=generator, device=base.device) * size
        down = torch.randn(rank, columns, generator=generator, device=base.device) * size
        deltas[name] = LowRank(up.cpu(), down.cpu(), tuple(weight.shape))
    write(deltas, path, family=base.family, force=True)
    return path


def pipeline(base: Base) -> Any:
    """diffusers' own pipeline on a copy of the same weights."""
    with quiet():
        from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline(
        vae=copy.deepcopy(base.vae),
        text_encoder=copy.deepcopy(base.text_encoder),
        tokenizer=base.tokenizer,
        unet=copy.deepcopy(base.unet),
        scheduler=find_sampler(SAMPLER).scheduler(base.scheduler_config),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def stacks_of(rows: Sequence[GridRow], weights: Sequence[float]) -> list[Stack]:
    return [Stack(row.deltas, weight, row.label, content_keys_of(row.deltas)) for row in rows for weight in weights]


def jobs(
    bench: Bench, stacks: Sequence[Stack], prompts: Sequence[str], seeds: Sequence[int], name: str = "jobs"
) -> list[GridJob]:
    """A picture for every stack, prompt and seed, of the base's size."""
    made = []
    for stack in stacks:
        for n, prompt in enumerate(prompts):
            for seed in seeds:
                key = f"{stack.key}-{n}-{seed}"
                place = bench.work / name / "cells" / stack.digest / f"{stack.weight:g}-{n}-{seed}.png"
                made.append(
                    GridJob(
                        stack,
                        prompt,
                        seed,
                        SamplingSettings(bench.scale.steps, CFG, SAMPLER, bench.base.resolution),
                        PictureFile(place, key, "", {"key": key}),
                    )
                )
    return made


def steady(at: Sequence[Moment]) -> float:
    """Seconds a picture after the first quarter of the reports: capture and warm-up are over then."""
    first, last = at[len(at) // 4], at[-1]
    return (last[0] - first[0]) / max(1, last[1] - first[1])


class PixelClock:
    """Inside its ``with`` block it notes when a batch's pixels are in main memory: ``last`` is of the latest batch, in
    seconds of ``perf_counter``, and ``moments`` has all of them with how many pictures there were by then."""

    def __init__(self) -> None:
        self.last = 0.0
        self.moments: list[Moment] = []

    def __enter__(self) -> PixelClock:
        clock, wait = self, HostPixels.wait

        def noted(pixels: HostPixels) -> NDArray[np.uint8]:
            made = wait(pixels)
            if "noted" not in vars(pixels):  # a batch's later pictures wait for nothing
                vars(pixels)["noted"] = clock.last = time.perf_counter()
                clock.moments.append((clock.last, len(made) + (clock.moments[-1][1] if clock.moments else 0)))
            return made

        self._patch = mock.patch.object(HostPixels, "wait", noted)
        self._patch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._patch.stop()


class Stopwatch:
    """Inside its ``with`` block it adds up the seconds that functions take, on whichever thread, by their names.

    Args:
        functions: dotted paths, ``package.module.name``.
    """

    def __init__(self, *functions: str) -> None:
        self.seconds: dict[str, float] = {path.rpartition(".")[2]: 0.0 for path in functions}
        self._patches = [mock.patch(path, self._timed(path)) for path in functions]

    def _timed(self, path: str) -> Callable[..., Any]:
        name, function = path.rpartition(".")[2], pkgutil.resolve_name(path)

        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds[name] += time.perf_counter() - start

        return timed

    def __enter__(self) -> Stopwatch:
        for patch in self._patches:
            patch.start()
        return self

    def __exit__(self, *_: object) -> None:
        for patch in self._patches:
            patch.stop()


def machine(device: torch.device) -> str:
    name = (
        torch.cuda.get_device_name(device) if device.type == "cuda" else f"{platform.machine()}, {os.cpu_count()} cores"
    )
    return f"{name}, torch {torch.__version__}"
