"""A run of a recipe as lines of text, while it goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from loratools.recipe.observer import RunObserver, StepFailure, StepResult
from loratools.recipe.plan.context import RunContext
from loratools.recipe.plan.planner import Planner
from loratools.recipe.plan.step import Planned
from loratools.recipe.report.facts import FinishedRun
from loratools.recipe.report.write import try_report
from loratools.recipe.run.work_folder import short_path

Print = Callable[[str], None]


class RunPrinter(RunObserver):
    """Prints a line for each step, and writes ``run.json`` and ``report.html`` at the end.

    Args:
        steps: all that the run is about.
        out: prints a line of results; None prints none.
        err: prints a line of what went wrong, or is waited for.
    """

    def __init__(
        self, planner: Planner, steps: Sequence[Planned], context: RunContext, *, out: Print | None, err: Print
    ) -> None:
        self._planner, self._steps, self._context, self._out, self._err = planner, steps, context, out, err
        self._width = max(len(step.name) for step in steps)
        self._begun = time.perf_counter()
        self._failed = False

    def on_wait(self, planned: Planned) -> None:
        self._err(f"the step '{planned.name}' waits: another process is making the very same for this cache")

    def on_done(self, result: StepResult) -> None:
        step, record = result.planned, result.record
        for text in record.facts.get("warnings", []):
            self._err(f"warning: the step '{step.name}': {text}")
        if self._out is None:
            return
        state = "cached" if result.cached else f"{record.seconds:.1f} s"
        inputs = f"{step.reads} -> " if step.reads else ""
        self._out(
            f"{step.name:<{self._width}}  {step.kind:<9}  {state:>8}  {inputs}{short_path(step.out)}: {record.summary}"
        )

    def on_fail(self, failure: StepFailure) -> None:
        why = f": {failure.error}" if self._failed else ""  # the first error ends the run, and is printed then
        self._failed = True
        skipped = f"; not run, since they need it: {', '.join(failure.skipped)}" if failure.skipped else ""
        self._err(f"the step '{failure.planned.name}' failed{skipped}{why}")

    def on_note(self, text: str) -> None:
        self._err(text)

    def on_end(self, results: Sequence[StepResult], failures: Sequence[StepFailure]) -> None:
        seconds = time.perf_counter() - self._begun
        run = FinishedRun(self._planner, self._steps, results, failures, self._context, seconds)
        page = try_report(run, self._err)
        if page is not None and self._out is not None:
            self._out(f"report: {short_path(page)}")
        if failures:
            self._err("what is done stays; to go on, mend what the error names and run the same command again")
