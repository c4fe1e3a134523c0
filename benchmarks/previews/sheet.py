"""A part of the previews benchmark without a model: ready pictures go through the real writers at a given pace.

What it times is everything that follows a picture's pixels: PNGs, the 0.9 test, the sheet, the page and the record.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.previews.bench import CFG, PROMPT, SAMPLER, TINY, Bench, Figure, Figures, random_base, random_lora
from loratools.adapter.files.file import read
from loratools.preview.render.decoder import DrawnBatch
from loratools.preview.render.engine import Engine
from loratools.preview.render.host_pixels import HostPixels
from loratools.preview.request.request import SamplingRequest
from loratools.preview.request.rows import GridRow
from loratools.preview.run import render_grid

_SIDE, _BATCH = 512, 8
_EPOCHS, _WEIGHTS = 10, tuple(n / 10 for n in range(11))
_PACES = (0.147, 0.1)  # seconds a picture: mixed stacks on one H200, and what is wanted there
_REPEATS = 3


def sheet(bench: Bench) -> Figures:
    """101 ready pictures of 512x512 at a GPU's pace: seconds from the last one to the finished files."""
    small = bench.scale is TINY
    side, paces = (64, (0.002,)) if small else (_SIDE, _PACES)
    epochs, weights = (2, _WEIGHTS[:4]) if small else (_EPOCHS, _WEIGHTS)
    base = random_base(TINY, torch.device("cpu"), torch.float32)
    base.resolution = (side, side)
    files = [random_lora(base, bench.work / f"sheet-{n}.safetensors", 2, n) for n in range(epochs)]
    pictures = scenes(1 + epochs * (len(weights) - 1), side)
    for pace in paces:
        runs = []
        for n in range(1 if small else _REPEATS):
            clock = _Clock()
            with mock.patch("loratools.preview.render.drawer.Engine", _engine(pictures, pace, clock)):
                result = render_grid(
                    base,
                    [GridRow.of_file(read(path)) for path in files],
                    weights,
                    [PROMPT],
                    out=bench.work / f"sheet-{pace}-{n}",
                    sampling=SamplingRequest(steps=20, cfg=CFG, sampler=SAMPLER),
                )
            now = time.process_time()
            clock.finished, clock.used, clock.whole = time.perf_counter(), now - clock.used, now - clock.whole
            runs.append(clock)
        name = f"{len(pictures)} pictures of {side}x{side}, one every {1000 * pace:g} ms"
        after = statistics.median(run.finished - run.last for run in runs)
        note = ", ".join(f"{run.finished - run.last:.2f}" for run in runs)
        yield Figure(f"{name}: from the last to all files", after, "s", "<= 1", after <= 1, f"each run: {note}")
        used = statistics.median(run.used for run in runs)
        yield Figure(f"{name}: processor time in that, of all threads", used, "s")
        whole = statistics.median(run.whole for run in runs)
        yield Figure(f"{name}: processor time from the first on, of all threads", whole, "s")
        late = statistics.median(run.last - run.begun - pace * len(pictures) for run in runs)
        yield Figure(f"{name}: what the writers held them up by", late, "s")
        size = result.png.stat().st_size / 1e6
        yield Figure(f"{name}: the sheet's file", size, "MB", note=f"page {result.html.stat().st_size / 1e6:.1f} MB")


class _Clock:
    """When the first picture was asked for, the last one was there, and the grid was finished; and the processor's time
    that all threads used between the latter two, and between the first and the last of them."""

    begun = last = finished = used = whole = 0.0


def _engine(pictures: NDArray[np.uint8], pace: float, clock: _Clock) -> Callable[..., Any]:
    """An engine whose pictures are ready: every batch is handed to the writers when a GPU would have it."""

    class ReadyPictures(Engine):
        def pictures(  # type: ignore[override] # the options do not matter here
            self, jobs: Sequence[Any], **_: Any
        ) -> Generator[DrawnBatch | None]:
            clock.begun, clock.whole = time.perf_counter(), time.process_time()
            for start in range(0, len(jobs), _BATCH):
                own = tuple(jobs[start : start + _BATCH])
                pixels = HostPixels(torch.from_numpy(pictures[start : start + len(own)].copy()))
                due = clock.begun + pace * (start + len(own))
                time.sleep(max(0.0, due - time.perf_counter()))
                clock.last, clock.used = time.perf_counter(), time.process_time()
                yield DrawnBatch(own, pixels)
            yield None

    return ReadyPictures


def scenes(count: int, side: int) -> NDArray[np.uint8]:
    """Pictures (count, side, side, 3) with the statistics of photographs: amplitudes that fall as 1 / frequency, the
    same outlines in every channel, and a few smooth shapes with sharp edges."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[0:side, 0:side] / side
    across, down = np.fft.rfftfreq(side), np.fft.fftfreq(side)[:, None]
    fall = 1 / np.maximum(np.hypot(across, down), 1 / side) ** 1.6  # a little smoother than a sharp photograph
    made = np.empty((count, side, side, 3), dtype=np.uint8)
    for n in range(count):
        layers = []
        for spread in (1.0, 0.35, 0.35):  # brightness, and two of colour
            phases = np.exp(2j * np.pi * random.random(fall.shape))
            layer = np.fft.irfft2(fall * phases, s=(side, side))
            layers.append(spread * (layer - layer.mean()) / layer.std())
        light, warm, green = layers
        for _ in range(6):
            a, b, radius = random.random(3)
            inside = np.hypot(x - a, y - b) < 0.05 + 0.2 * radius
            light = np.where(inside, 0.35 * light + random.normal(), light)
        channels = (light + warm, light + green - 0.5 * warm, light - green - 0.5 * warm)
        made[n] = np.clip(np.stack([128 + 48 * channel for channel in channels], axis=-1), 0, 255).astype(np.uint8)
    return made


def write_scenes(folder: Path, count: int = 8, side: int = _SIDE) -> None:
    """Save a few of the pictures, to look at."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    for n, picture in enumerate(scenes(count, side)):
        Image.fromarray(picture).save(folder / f"scene{n}.png")
