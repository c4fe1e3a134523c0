"""Parts of the previews benchmark that render grids: against diffusers, on a GPU and on a CPU, and a merged file."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.previews.bench import (
    CFG,
    PROMPT,
    PROMPTS,
    SAMPLER,
    TINY,
    Bench,
    Figure,
    Figures,
    pipeline,
    random_lora,
    steady,
)
from loratools.adapter.files.file import read
from loratools.base.load import load_base
from loratools.base.model import Base
from loratools.base.quiet import quiet
from loratools.blocks.parse import parse_vector
from loratools.blocks.presets import load_presets
from loratools.ops.merging.merge import merge_files
from loratools.ops.merging.terms import Term
from loratools.pocket import weights_folder
from loratools.preview.request.options import EngineOptions
from loratools.preview.request.request import SamplingRequest
from loratools.preview.request.rows import GridRow
from loratools.preview.run import render_grid


def diffusers(bench: Bench) -> Figures:
    """diffusers: every epoch loaded once, ``set_adapters`` for every cell, one picture a call, saved as PNG."""
    pipe, scale = pipeline(bench.base), bench.scale
    pipe(PROMPT, num_inference_steps=2, guidance_scale=CFG)
    bench.sync()
    load = cell = 0.0
    cells = 0
    for n, path in enumerate(bench.files[: scale.theirs]):
        start = time.perf_counter()
        with quiet():
            pipe.load_lora_weights(path.parent, weight_name=path.name, adapter_name=f"e{n}")
        bench.sync()
        load += time.perf_counter() - start
        for weight in scale.weights[1:]:
            start = time.perf_counter()
            pipe.set_adapters([f"e{n}"], [weight])
            made = pipe(
                PROMPT,
                num_inference_steps=scale.steps,
                guidance_scale=CFG,
                generator=torch.Generator("cpu").manual_seed(1),
            ).images[0]
            made.save(bench.work / f"theirs-{n}-{weight}.png")
            cell += time.perf_counter() - start
            cells += 1
    load, cell = load / scale.theirs, cell / cells
    distinct = 1 + scale.epochs * (len(scale.weights) - 1)
    bench.seconds["diffusers"] = scale.epochs * load + distinct * cell
    yield Figure("diffusers, one picture under set_adapters", cell, "s/image", note=f"mean of {cells}")
    yield Figure("diffusers, loading one epoch", load)
    yield Figure(
        f"diffusers, {scale.epochs} loads and {distinct} cells",
        bench.seconds["diffusers"],
        note="the two above, scaled",
    )
    del pipe
    bench.clear()


def grid(bench: Bench) -> Figures:
    """The epochs x weights grid, one prompt and one seed: every stack has one picture, and eight share a batch."""
    scale = bench.scale
    start = time.perf_counter()
    rows = bench.rows(scale.epochs)
    reading = time.perf_counter() - start
    result, at = bench.grid(rows, [PROMPT], "grid")
    whole, on_disk = time.perf_counter() - start, reading + at[-1][0]
    count, alone = result.rendered, bench.seconds.get("unet 8", math.nan)
    settled = steady(at)
    yield Figure(f"ours, {count} cells, pictures on disk", on_disk, note="reading files and capture included")
    yield Figure("ours, the same with the 0.9 test, sheet and page", whole)
    yield Figure("ours, a cell at a steady pace", settled, "s/image")
    if "diffusers" in bench.seconds:
        ratio = bench.seconds["diffusers"] / on_disk
        yield Figure("ours against diffusers, end to end, pictures on disk", ratio, "x", ">= 4", ratio >= 4)
        ratio = bench.seconds["diffusers"] / whole
        yield Figure("the same, the sheet and the page counted on our side", ratio, "x")
    ratio = on_disk / count / alone
    yield Figure("ours against the pure UNet graph at batch 8, capture and all counted on our side", ratio, "x")
    yield Figure(
        "ours against the pure UNet graph at batch 8, steady", settled / alone, "x", "<= 1.3", settled / alone <= 1.3
    )
    rows, alone = bench.rows(scale.four), bench.seconds.get("unet 1", math.nan)
    _, at = bench.grid(rows, [PROMPT], "patched", EngineOptions(mixed=False))
    yield Figure("the same by patching every cell, at batch 1, steady", steady(at), "s/image")
    yield Figure("patching against the pure UNet graph at batch 1, steady", steady(at) / alone, "x")


def four(bench: Bench) -> Figures:
    """Four prompts: every stack has a batch of four."""
    start = time.perf_counter()
    result, at = bench.grid(bench.rows(bench.scale.four), PROMPTS, "four")
    each = (time.perf_counter() - start) / result.rendered
    settled, alone = steady(at), bench.seconds.get("unet 4", math.nan)
    yield Figure(f"four prompts, {result.rendered} pictures, all told", each, "s/image")
    yield Figure("four prompts, at a steady pace", settled, "s/image", "<= 0.16", settled <= 0.16)
    yield Figure(
        "four prompts against the pure UNet graph at batch 4, steady",
        settled / alone,
        "x",
        "<= 1.3",
        settled / alone <= 1.3,
    )


def merge(bench: Bench) -> Figures:
    """A live stack against its merged fp16 file, on the random model and on the pocket base."""
    bases = {"random SD 1.5": bench.base}
    if (weights_folder() / "model_index.json").is_file():
        bases["pocket"] = load_base("pocket", device=str(bench.device), dtype=None)
    presets = load_presets()
    for name, base in bases.items():
        paths = [random_lora(base, bench.work / f"{name}-{n}.safetensors", 8, n, 0.15) for n in (1, 2)]
        terms = [
            Term(read(path), weight, parse_vector(vector, presets, "sd1"), label=path.stem)
            for path, weight, vector in zip(paths, (1.0, -0.5), ("GP1", "GP2"), strict=True)
        ]
        merged = bench.work / f"{name}-merged.safetensors"
        merge_files(terms, merged, force=True)
        rows = [GridRow.of_terms(terms, "live"), GridRow.of_file(read(merged))]
        result = render_grid(
            base,
            rows,
            (1.0,),
            PROMPTS[:2],
            out=bench.work / f"merge-{name}",
            seeds=(1, 2),
            sampling=SamplingRequest(steps=bench.scale.steps, cfg=CFG, sampler=SAMPLER),
            force=True,
        )
        live, file, plain = (
            np.stack([np.asarray(Image.open(path)).astype(float) for path in paths])
            for paths in (result.paths("live", 1.0), result.paths(rows[1].label, 1.0), result.paths("live", 0.0))
        )
        mean = float(np.abs(live - file).mean())
        yield Figure(
            f"preview against merge, {name}: mean difference",
            mean,
            "/255",
            "<= 1",
            mean <= 1,
            f"the stack itself moves the picture by {np.abs(live - plain).mean():.3g}",
        )


_RUNS = 3  # of everything on a CPU, where other work on the machine is felt


def cpu(bench: Bench) -> Figures:
    """The pocket base on a CPU against a diffusers loop, at batch 1 and at an equal batch, in each of three runs."""
    base = load_base("pocket", device="cpu", dtype="fp32")
    small = bench.scale is TINY
    files = [random_lora(base, bench.work / f"cpu-{n}.safetensors", 8, n, 0.15) for n in (1, 2)]
    setting = _Setting(base, pipeline(base), files, 2 if small else base.defaults.steps)
    setting.pipe(PROMPT, num_inference_steps=1, guidance_scale=CFG)
    first = SamplingRequest(steps=1, cfg=CFG, sampler=SAMPLER)  # as theirs: what is imported and set up once
    render_grid(base, [GridRow.of_file(read(files[0]))], (1.0,), PROMPTS[:1], out=bench.work / "first", sampling=first)
    plain, mixed = EngineOptions(), EngineOptions(mixed=True)
    for shown, ways in (
        (_Shown("one prompt, one seed", (0.0, 0.5, 1.0), PROMPTS[:1], (1,)), {"": plain, ", --mixed": mixed}),
        (_Shown("two prompts, two seeds", (0.0, 1.0), PROMPTS[:2], (1, 2)), {"": plain}),
    ):
        ours, theirs = {way: list[float]() for way in ways}, {size: list[float]() for size in shown.sizes}
        for n in range(1 if small else _RUNS):
            for way, options in ways.items():
                ours[way].append(_our_pace(bench, setting, shown, options, bench.work / f"cpu-{shown.name}{way}-{n}"))
            for size in shown.sizes:
                theirs[size].append(diffusers_loop(bench, setting, shown, size))
        for way in ways:
            yield from _cpu_figures(f"{shown.name}{way}", ours[way], theirs)


@dataclass(frozen=True)
class _Setting:
    """A base, diffusers' pipeline of it, LoRA files and sampler steps."""

    base: Base
    pipe: Any
    files: Sequence[Path]
    steps: int


@dataclass(frozen=True)
class _Shown:
    """What a grid shows, beside the LoRA files."""

    name: str
    weights: tuple[float, ...]
    prompts: Sequence[str]
    seeds: tuple[int, ...]

    @property
    def sizes(self) -> list[int]:
        """Of diffusers' batches: one, and as many pictures as a cell has."""
        return sorted({1, len(self.prompts) * len(self.seeds)})


def _our_pace(bench: Bench, setting: _Setting, shown: _Shown, options: EngineOptions, out: Path) -> float:
    """Seconds a picture of our grid, end to end."""
    start = time.perf_counter()
    result = render_grid(
        setting.base,
        [GridRow.of_file(read(path)) for path in setting.files],
        shown.weights,
        shown.prompts,
        out=out,
        seeds=shown.seeds,
        sampling=SamplingRequest(steps=setting.steps, cfg=CFG, sampler=SAMPLER),
        options=options,
        force=True,
    )
    return (time.perf_counter() - start) / result.rendered


def _cpu_figures(name: str, ours: Sequence[float], theirs: Mapping[int, Sequence[float]]) -> Figures:
    each = ", ".join(f"{one:.3g}" for one in ours)
    yield Figure(f"pocket on a CPU, ours, {name}, end to end", median(ours), "s/image", note=f"each run: {each}")
    for batch, spent in theirs.items():
        ratios = [other / one for other, one in zip(spent, ours, strict=True)]
        bar, each = 1.5 if batch == 1 else 1.0, ", ".join(f"{ratio:.2f}" for ratio in ratios)
        yield Figure(
            f"pocket on a CPU, {name}: against diffusers at batch {batch}, the least of {len(ratios)} runs",
            min(ratios),
            "x",
            f">= {bar}",
            min(ratios) >= bar,
            f"each run: {each}; diffusers {median(spent):.3g} s/image",
        )


def diffusers_loop(bench: Bench, setting: _Setting, shown: _Shown, batch: int) -> float:
    """Seconds a picture of a loop that loads each epoch once and sets adapters for each distinct cell."""
    start, count, pipe = time.perf_counter(), 0, setting.pipe
    pairs = [(prompt, seed) for prompt in shown.prompts for seed in shown.seeds]
    for n, path in enumerate(setting.files):
        with quiet():
            pipe.load_lora_weights(path.parent, weight_name=path.name, adapter_name="x")
        for weight in shown.weights if n == 0 else shown.weights[1:]:
            pipe.set_adapters(["x"], [weight])
            for at in range(0, len(pairs), batch):
                part = pairs[at : at + batch]
                made = pipe(
                    [prompt for prompt, _ in part],
                    num_inference_steps=setting.steps,
                    guidance_scale=CFG,
                    generator=[torch.Generator().manual_seed(seed) for _, seed in part],
                ).images
                for m, image in enumerate(made):
                    image.save(bench.work / f"loop-{n}-{weight}-{at + m}.png")
                count += len(part)
        pipe.unload_lora_weights()
    return (time.perf_counter() - start) / count
