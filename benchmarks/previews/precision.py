"""Parts of the previews benchmark about small cards and half precision: memory caps, and every sampler in fp16."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks.previews.bench import CFG, PROMPTS, TINY, Bench, Figure, Figures, Moment, jobs, steady
from benchmarks.previews.random_models import stacks_on, xl_base
from loratools.base.load import load_base
from loratools.base.model import Base
from loratools.preview.plan.jobs import GridJob, Stack
from loratools.preview.render.drawer import render_jobs
from loratools.preview.render.engine import Engine
from loratools.preview.render.picture_store import PictureStore
from loratools.preview.request.options import EngineOptions

_CONTEXT = 500 << 20  # bytes of a card that CUDA itself takes, and torch does not count
_SAMPLERS = (
    "Euler",
    "Euler a",
    "Euler a Karras",
    "Euler a KL Optimal",
    "Heun",
    "LMS",
    "DPM2 a",
    "DPM++ 2S a",
    "DPM++ 2M",
    "DPM++ 2M Karras",
    "DPM++ SDE",
    "DPM++ 2M SDE",
    "DPM++ 3M SDE",
    "Restart",
    "UniPC",
    "DDIM",
    "DDPM",
    "PLMS",
)
_ALSO_CPU = ("Euler a", "Euler a KL Optimal", "DPM++ 2M SDE")


def caps(bench: Bench) -> Figures:
    """SD 1.5 at 512 and SDXL at 1024 under caps of 8 and 12 GiB, with what the engine chooses by itself."""
    xl = xl_base(bench)
    for gib in (8, 12):
        for name, base in (("SD 1.5", bench.base), ("SDXL", xl)):
            yield from _capped(bench, base, name, gib)


def _capped(bench: Bench, base: Base, name: str, gib: int) -> Figures:
    stacks, said, at = (
        stacks_on(base, bench.work, bench.scale.rank, 4 if base.family == "sdxl" else 8),
        list[str](),
        list[Moment](),
    )
    made = jobs(bench, stacks, PROMPTS[:1], [1], f"cap-{gib}-{base.name}")
    made = [replace(job, settings=replace(job.settings, size=base.resolution)) for job in made]
    for other in (bench.base, bench.xl):  # only what is drawn with is there
        if other is not None and other is not base:
            _move(other, torch.device("cpu"))
    start = time.perf_counter()
    done = 0

    def came(count: int) -> None:
        nonlocal done
        done += count
        at.append((time.perf_counter() - start, done))

    with _parked(base), _cap(bench, gib):
        with Engine(base, EngineOptions(compiled=False), say=said.append) as engine:
            render_jobs(engine, made, PictureStore(bench.work / f"cap-{gib}-{base.name}"), on_done=came)
        peak = torch.cuda.max_memory_reserved() if bench.device.type == "cuda" else 0
    text, whole = f"{name} under {gib} GiB", peak + _CONTEXT
    note = "; ".join([f"steady {steady(at):.3g}", *said])
    yield Figure(f"{text}: {len(made)} pictures", at[-1][0] / len(made), "s/image", note=note)
    yield Figure(f"{text}: reserved peak, with CUDA's own", whole / 2**30, "GiB", f"<= {gib}", met=whole <= gib << 30)


@contextlib.contextmanager
def _parked(base: Base) -> Iterator[None]:
    """The base in main memory at first, as one that is too large for the card is loaded; on its device afterwards."""
    _move(base, torch.device("cpu"))
    try:
        yield
    finally:
        _move(base, base.device)


def _move(base: Base, device: torch.device) -> None:
    for model in (base.unet, base.vae, *base.text_encoders):
        model.to(device)


@contextlib.contextmanager
def _cap(bench: Bench, gib: int) -> Iterator[None]:
    """As much memory as a card of ``gib`` GiB leaves to torch."""
    bench.clear()
    cuda = bench.device.type == "cuda"
    if cuda:
        torch.cuda.set_per_process_memory_fraction(
            ((gib << 30) - _CONTEXT) / torch.cuda.get_device_properties(bench.device).total_memory
        )
        torch.cuda.reset_peak_memory_stats()
    try:
        yield
    finally:
        if cuda:
            torch.cuda.set_per_process_memory_fraction(1.0)


def samplers(bench: Bench) -> Figures:
    """Every kind of sampler on the pocket base in the device's half precision, against fp32 there and on a CPU."""
    cuda = bench.device.type == "cuda"
    own = str(bench.device)
    places = ((own, "fp16" if cuda else "bf16"), (own, "fp32"), ("cpu", "fp32"))
    half, full, cpu = (load_base("pocket", device=device, dtype=dtype) for device, dtype in places)
    names = _SAMPLERS[:2] if bench.scale is TINY else _SAMPLERS
    pictures = {key: _drawn(bench, base, key, names) for key, base in (("half", half), ("full", full))}
    on_cpu = _drawn(bench, cpu, "cpu", [name for name in names if name in _ALSO_CPU]) if cuda else {}
    for name in names:
        far = _far(pictures["half"][name], pictures["full"][name])
        note = f"against a CPU {_far(pictures['half'][name], on_cpu[name]):.3g}" if name in on_cpu else ""
        yield Figure(f"{name}: half precision against fp32, mean difference", far, "/255", note=note)
    shown = np.stack([pictures["full"][name] for name in names])
    yield Figure("two seeds of one sampler: mean difference", _far(shown[:, 0], shown[:, 1]), "/255", note="for scale")


def _drawn(bench: Bench, base: Base, key: str, names: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """Each sampler's pictures (2, height, width, 3) of two seeds."""
    steps, made = 2 if bench.scale is TINY else 12, list[GridJob]()
    for name in names:
        own = jobs(bench, [Stack()], PROMPTS[:1], (1, 2), f"samplers-{key}/{name}")
        for job in own:  # a picture's key is its own, or another sampler's would be taken for it
            settings = replace(job.settings, sampler=name, steps=steps, cfg=CFG, size=base.resolution)
            file = replace(job.file, key=f"{name} {job.file.key}", made={"key": f"{name} {job.file.key}"})
            made.append(GridJob(job.stack, job.prompt, job.seed, settings, file))
    with Engine(base, EngineOptions(compiled=False)) as engine:
        render_jobs(engine, made, PictureStore(bench.work / f"samplers-{key}"))
    shown = [np.asarray(Image.open(job.file.path)).astype(float) for job in made]
    return {name: np.stack(shown[2 * n : 2 * n + 2]) for n, name in enumerate(names)}


def _far(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    return float(np.abs(one - other).mean())
