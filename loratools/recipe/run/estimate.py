"""How much memory a step took at its peak, and what time, disk and memory steps to come will take."""

from __future__ import annotations

import contextlib
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from loratools.recipe.plan.step import Planned
from loratools.recipe.record import Record
from loratools.recipe.run.cache import Cache
from loratools.recipe.run.work_folder import WorkFolder

_STATUS = Path("/proc/self/status")


class Peak:
    """Measures the process's peak resident memory inside a ``with`` block, in ``bytes``.

    Where the system cannot reset its count, it is the peak since the process began.
    """

    bytes = 0

    def __enter__(self) -> Peak:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bytes = _peak()


def _peak() -> int:
    with contextlib.suppress(OSError, StopIteration, ValueError):
        lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
    with contextlib.suppress(ImportError):
        import resource

        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else 1024 * most
    return 0


@dataclass(frozen=True)
class Estimate:
    """What a step is expected to take, in seconds and bytes; None where unknown. ``basis`` says what it is based on."""

    seconds: float | None
    size: int | None
    memory: int | None
    basis: str


@dataclass(frozen=True)
class Forecast:
    """A step before a run: its state (see :func:`~loratools.recipe.run.runner.state_of`), and what it will take."""

    planned: Planned
    state: str
    estimate: Estimate


def forecast(planned: Planned, state: str, folder: WorkFolder) -> Forecast:
    """What ``planned``, which is in ``state``, will take; nothing where its result is there already."""
    if state in ("cached", "kept"):
        return Forecast(planned, state, Estimate(None, None, None, ""))
    return Forecast(planned, state, estimate(planned, folder.record(planned.name), folder.cache))


def estimate(planned: Planned, last: Record | None, cache: Cache) -> Estimate:
    """The step's own last run, scaled to how much there is to do now; else past steps of its kind; else a model."""
    units = planned.draft.units
    if last is not None and last.done and last.kind == planned.kind:
        scale = units / last.units if units and last.units else 1.0
        return Estimate(last.seconds * scale, last.size, last.memory or None, "its last run")
    past = cache.history(planned.kind)[-20:]
    if past:
        seconds = statistics.median(_each(timing.seconds, timing.units if units else None) for timing in past)
        size = statistics.median(timing.size for timing in past)
        memory = max(timing.memory for timing in past)
        return Estimate(seconds * (units or 1.0), int(size), memory or None, f"{len(past)} past {planned.kind} steps")
    if (guess := planned.step_kind.guess) is not None and units:
        guessed = int(guess.size * units) if guess.size else None
        return Estimate(guess.seconds * units, guessed, None, "guess: pocket, 2 CPU cores")
    return Estimate(None, None, None, "")


def _each(seconds: float, units: float | None) -> float:
    return seconds / units if units else seconds


def time_text(seconds: float | None) -> str:
    """``3 s``, ``12 min`` or ``2.5 h``."""
    if seconds is None:
        return "-"
    if seconds < 100:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def size_text(size: int | None) -> str:
    """``12.3 MiB``."""
    if size is None:
        return "-"
    if size < 2**20:
        return f"{size / 2**10:.0f} KiB"
    return f"{size / 2**20:.1f} MiB" if size < 2**30 else f"{size / 2**30:.1f} GiB"
