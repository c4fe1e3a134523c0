"""What a run of a recipe reports while it goes on, and to whom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from loratools.recipe.plan.step import Planned
from loratools.recipe.record import Record


@dataclass(frozen=True)
class StepResult:
    """A step that is done; ``cached`` if its result was there before the run."""

    planned: Planned
    record: Record
    cached: bool


@dataclass(frozen=True)
class StepFailure:
    """A step that failed; ``skipped`` are the names of those that need it, and so could not run."""

    planned: Planned
    error: Exception
    skipped: tuple[str, ...]


class RunObserver:
    """Is called as a run of steps goes on. Nothing happens by default; override what is of interest.

    With several jobs, and of a step that is launched, ``on_start``, ``on_done`` and ``on_wait`` are called from the
    thread that runs the step, or waits for its processes.
    """

    def on_start(self, planned: Planned) -> None:
        """A step begins to compute; it is not called for one whose result is there already."""

    def on_wait(self, planned: Planned) -> None:
        """A step waits: another process is making the same result for the same cache, and it is taken from there."""

    def on_done(self, result: StepResult) -> None:
        """A step is done."""

    def on_fail(self, failure: StepFailure) -> None:
        """A step failed."""

    def on_note(self, text: str) -> None:
        """Several processes work on the run, and one is waited for, or failed and was made up for."""

    def on_end(self, results: Sequence[StepResult], failures: Sequence[StepFailure]) -> None:
        """The run is over, also where steps failed; the work folder is still locked."""
