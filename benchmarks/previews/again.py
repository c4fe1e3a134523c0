"""A part of the previews benchmark: the second grid of a process, on the base that the first one has loaded."""

from __future__ import annotations

import time
from collections.abc import Sequence

from benchmarks.previews.bench import CFG, PROMPTS, SAMPLER, Bench, Figure, Figures
from loratools.preview.request.request import ModelRequest, SamplingRequest
from loratools.preview.run import render_grid
from loratools.preview.session import Session

_MOST = 1.0  # seconds


def again(bench: Bench) -> Figures:
    """A second grid on the base of the first, in one process: seconds to its first picture on disk."""
    with Session() as session:
        first = _first_picture(bench, session, "first", PROMPTS[:1])
        yield Figure("first grid on a model in memory: its first picture", first)
        for name, prompts in (("the same prompt", PROMPTS[:1]), ("another prompt", PROMPTS[1:2])):
            seconds = _first_picture(bench, session, name, prompts)
            yield Figure(f"second grid, {name}: its first picture", seconds, "s", f"<= {_MOST:g}", seconds <= _MOST)
        session.close()
        for name in ("first", "second"):
            start = time.perf_counter()
            base = session.load("pocket", ModelRequest(device=str(bench.device)))
            yield Figure(f"pocket base from disk, {name} time", time.perf_counter() - start)
    del base


def _first_picture(bench: Bench, session: Session, name: str, prompts: Sequence[str]) -> float:
    """Seconds until the first picture of a grid is on disk."""
    at: list[float] = []
    rows = bench.rows(min(2, bench.scale.epochs))
    start = time.perf_counter()
    render_grid(
        bench.base,
        rows,
        bench.scale.weights,
        prompts,
        out=bench.work / f"again {name}",
        sampling=SamplingRequest(steps=bench.scale.steps, cfg=CFG, sampler=SAMPLER),
        force=True,
        on_picture=lambda done, total: at.append(time.perf_counter() - start),
        session=session,
    )
    return at[0]
