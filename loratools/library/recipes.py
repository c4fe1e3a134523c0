"""Recipes: run, and files told and made again from the recipe in their header."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from loratools.library.options import OneOrMore, StrPath, lora_file, several
from loratools.progress import OnProgress
from loratools.recipe.observer import RunObserver, StepFailure, StepResult

if TYPE_CHECKING:
    from loratools.recipe.plan.context import RunContext
    from loratools.recipe.plan.planner import Planner
    from loratools.recipe.plan.step import Planned
    from loratools.recipe.reproduce import Reproduced


def run_recipe(
    recipe: StrPath,
    out: StrPath | None = None,
    *,
    only: OneOrMore = (),
    base: StrPath | None = None,
    values: Mapping[str, object] | None = None,
    jobs: int = 1,
    processes: int | str | None = None,
    launch: str | None = None,
    cache: StrPath | None = None,
    device: str = "auto",
    force: bool = False,
    observer: RunObserver | None = None,
    on_progress: OnProgress | None = None,
) -> list[StepResult]:
    """Run a recipe: every step that is not cached, in order; a run that was stopped goes on from there.

    Args:
        recipe: a ``.yaml`` file, or the name of one that ships.
        out: the folder of the results, of ``run.json`` and of ``report.html``; ``runs/NAME`` by default.
        only: steps to run, and what they need; all by default.
        base: another base than the recipe's own.
        values: the recipe's variables: ``{"style_weight": 0.8}``.
        jobs: steps that do not need each other at once.
        processes: how many on this machine run steps that load a model, one a GPU; ``"auto"`` for all GPUs. The
            recipe's own by default; 1 for this process alone.
        launch: a launcher's command that starts the processes instead, such as ``accelerate launch``.
        cache: a folder of finished results to share with other work folders.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        force: overwrite files that a step did not write.
        observer: is told of each step as it starts, waits, ends or fails; notes reach its ``on_note``.
        on_progress: called as ``on_progress(steps done, all steps)`` after each step, one call at a time.
    Returns:
        A result for each step: ``planned.name``, ``planned.out``, ``record.facts``, and whether it was ``cached``.
    Raises:
        RecipeError: for a recipe that cannot be read or resolved.
        LoratoolsError: of the first step that failed; those that do not need it have run.
    """
    from loratools.recipe.plan.context import RunContext
    from loratools.recipe.run.launched import step_launcher
    from loratools.recipe.run.runner import default_work, make_planner, run_steps

    work = default_work(recipe) if out is None else Path(out)
    texts = {name: _text(value) for name, value in (values or {}).items()}
    planner = make_planner(recipe, work, None if base is None else str(base), texts)
    steps = planner.plan(several(only) or None)
    context = RunContext(device, force)
    watching = _Watching(planner, steps, context, observer or RunObserver(), on_progress)
    return run_steps(
        steps,
        planner.work,
        context,
        cache=None if cache is None else Path(cache),
        jobs=jobs,
        launch=step_launcher(planner, device, processes, launch),
        observer=watching,
    )


def explain(file: StrPath) -> str:
    """How a LoRA file was made, in words, from its header alone.

    Raises:
        FileError, FormatError: if it cannot be read, or is no LoRA.
        RecipeError: if the recipe in its header is damaged.
    """
    from loratools.recipe.publish.explain_file import explain_file

    return explain_file(lora_file(file))


def reproduce(
    file: StrPath,
    out: StrPath | None = None,
    *,
    folder: StrPath | None = None,
    lora_dirs: OneOrMore = (),
    device: str = "auto",
    force: bool = False,
) -> Reproduced:
    """Make a file again from the recipe in its header, and compare it with what it was.

    Args:
        out: where the new file goes; it is dropped if None.
        folder: where relative paths of the recipe are looked for, besides the current folder.
        lora_dirs: further folders in which LoRAs are looked for by name.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        force: ``out`` may be a file that something else wrote.
    Returns:
        Whether the two are ``equal``, their digests, and ``notes`` on what differs.
    Raises:
        RecipeError: if the header holds no recipe, or what it reads is not here.
        LoratoolsError: of a step that fails.
    """
    from loratools.recipe.plan.context import RunContext
    from loratools.recipe.reproduce import reproduce as make_again

    return make_again(
        lora_file(file),
        RunContext(device, force),
        out=None if out is None else Path(out),
        folder=None if folder is None else Path(folder),
        lora_dirs=[Path(one) for one in several(lora_dirs)],
        force=force,
    )


class _Watching(RunObserver):
    """Hands everything on to the caller's observer, counts steps, and writes the run's report at its end."""

    def __init__(
        self,
        planner: Planner,
        steps: Sequence[Planned],
        context: RunContext,
        observer: RunObserver,
        on_progress: OnProgress | None,
    ) -> None:
        self._planner, self._steps, self._context = planner, steps, context
        self._observer, self._on_progress = observer, on_progress
        self._begun, self._done = time.perf_counter(), 0
        self._lock = threading.Lock()  # with several jobs, steps end in threads of their own

    def on_start(self, planned: Planned) -> None:
        self._observer.on_start(planned)

    def on_wait(self, planned: Planned) -> None:
        self._observer.on_wait(planned)

    def on_note(self, text: str) -> None:
        self._observer.on_note(text)

    def on_done(self, result: StepResult) -> None:
        self._observer.on_done(result)
        with self._lock:
            self._done += 1
            if self._on_progress is not None:
                self._on_progress(self._done, len(self._steps))

    def on_fail(self, failure: StepFailure) -> None:
        self._observer.on_fail(failure)

    def on_end(self, results: Sequence[StepResult], failures: Sequence[StepFailure]) -> None:
        from loratools.recipe.report.facts import FinishedRun
        from loratools.recipe.report.write import try_report

        seconds = time.perf_counter() - self._begun
        run = FinishedRun(self._planner, self._steps, results, failures, self._context, seconds)
        try_report(run, self._observer.on_note)
        self._observer.on_end(results, failures)


def _text(value: object) -> str:
    """A variable's value as a recipe would hold it: ``true``, ``0.8``, ``words``."""
    return str(value).lower() if isinstance(value, bool) else str(value)
