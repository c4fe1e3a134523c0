"""Parts of the previews benchmark that draw a grid end to end: SD 1.5 and SDXL, compiled and not."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.previews.bench import (
    CFG,
    PROMPT,
    SAMPLER,
    TINY,
    Bench,
    Figure,
    Figures,
    Moment,
    PixelClock,
    Stopwatch,
    random_lora,
    steady,
)
from benchmarks.previews.compute import graph_seconds
from benchmarks.previews.random_models import xl_base
from loratools.adapter.files.file import read
from loratools.base.model import Base
from loratools.base.sampling.sample import plain_unet
from loratools.preview.request.options import EngineOptions
from loratools.preview.request.request import SamplingRequest
from loratools.preview.request.rows import GridRow
from loratools.preview.run import render_grid
from loratools.preview.session import Session

_WRITERS = tuple(
    f"loratools.preview.{name}"
    for name in ("sheet.write._write_page", "sheet.write._draw_sheet_file", "sheet.canvas.write_png")
)


@dataclass(frozen=True)
class Mode:
    """How a grid is drawn, what that is called, and what a picture may take at a steady pace."""

    text: str
    options: EngineOptions
    bar: float | None = None  # seconds


@dataclass(frozen=True)
class Subject:
    """A base with its grid: LoRA files down, weights across, the base alone in front."""

    name: str
    base: Base
    batch: int
    files: Sequence[Path]
    across: int
    ratio: float | None = None  # at most so many times the bare UNet graph

    @property
    def weights(self) -> list[float]:
        return [n / self.across for n in range(self.across + 1)]


def modes(bench: Bench) -> Figures:
    """SD 1.5, 10 epochs at 11 weights: a grid with its sheet, page and PNGs, over a compiled UNet and without."""
    ways = (
        Mode("not compiled", EngineOptions(compiled=False), 0.135),
        Mode("compiled", EngineOptions(compiled=True), 0.11),
        Mode("compiled again, read from disk", EngineOptions(compiled=True), 0.11),
    )
    yield from _drawn(bench, Subject("SD 1.5", bench.base, 8, bench.files, 3 if bench.scale is TINY else 10), ways)


def modes_xl(bench: Bench) -> Figures:
    """SDXL at 1024 x 1024, 2 epochs at 13 weights: the same as it chooses by itself, then otherwise."""
    base = xl_base(bench)
    files = [random_lora(base, bench.work / f"{base.name}-{n}.safetensors", bench.scale.rank, n) for n in (1, 2)]
    ways = (
        Mode("as it chooses", EngineOptions(batch=4)),
        Mode("fused norms in the float32 decoder too", EngineOptions(batch=4, fused=True)),
        Mode("compiled", EngineOptions(batch=4, compiled=True)),
    )
    small = bench.scale is TINY
    yield from _drawn(bench, Subject("SDXL", base, 4, files, 3 if small else 12, ratio=1.25), ways[: 1 if small else 3])


def _drawn(bench: Bench, subject: Subject, ways: Sequence[Mode]) -> Figures:
    """The bare UNet graph of this run, then a grid in each of ``ways``."""
    base = subject.base
    alone, _ = graph_seconds(bench, base, plain_unet(base), subject.batch)
    yield Figure(f"{subject.name}: bare UNet graph, batch {subject.batch}", alone, "s/image")
    bench.clear()
    for n, mode in enumerate(ways):
        run = _timed_grid(bench, subject, mode.options, bench.work / f"{base.name}-mode-{n}")
        name = f"{subject.name}, {mode.text}"
        yield Figure(f"{name}: {run.count} cells with sheet, page and PNGs", run.files)
        yield Figure(f"{name}: the first picture", run.at[0][0])
        after = run.files - run.pixels
        note = f"of which {run.at[-1][0] - run.pixels:.2f} until the last PNG; {run.parts}"
        yield Figure(f"{name}: from the last picture's pixels to all files", after, "s", "<= 1", after <= 1, note)
        yield Figure(f"{name}: freeing the engine after that", run.closed - run.files)
        settled = steady(run.drawn)
        bar, met = (f"<= {mode.bar:g}", settled <= mode.bar) if mode.bar else ("", None)
        yield Figure(f"{name}: steady", settled, "s/image", bar, met)
        limit, ratio = subject.ratio, settled / alone
        yield Figure(
            f"{name}: steady, against the bare UNet graph",
            ratio,
            "x",
            f"<= {limit:g}" if limit else "",
            ratio <= limit if limit else None,
        )
        bench.clear()


@dataclass(frozen=True)
class _Run:
    """A grid's times in seconds from its start, and what its files' writers took, in words.

    ``at`` is when pictures were told of, ``drawn`` when their pixels were in main memory and ``pixels`` the last of it,
    ``files`` when all files were there, ``closed`` when the engine was freed.
    """

    count: int
    at: tuple[Moment, ...]
    drawn: tuple[Moment, ...]
    pixels: float
    files: float
    closed: float
    parts: str


def _timed_grid(bench: Bench, subject: Subject, options: EngineOptions, out: Path) -> _Run:
    rows = [GridRow.of_file(read(path)) for path in subject.files]
    at: list[Moment] = []
    start = time.perf_counter()
    with PixelClock() as clock, Stopwatch(*_WRITERS) as watch:
        with Session() as session:
            result = render_grid(
                subject.base,
                rows,
                subject.weights,
                [PROMPT],
                out=out,
                sampling=SamplingRequest(steps=bench.scale.steps, cfg=CFG, sampler=SAMPLER),
                options=options,
                force=True,
                on_picture=lambda done, total: at.append((time.perf_counter() - start, done)),
                session=session,
            )
            finished = time.perf_counter() - start
        closed = time.perf_counter() - start
    parts = ", ".join(f"{name.strip('_')} {seconds:.2f}" for name, seconds in watch.seconds.items())
    return _Run(result.rendered, tuple(at), tuple(clock.moments), clock.last - start, finished, closed, parts)
