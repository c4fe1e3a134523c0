"""A recipe's steps in processes of their own: what this one hands to them, and what they do with it.

This process keeps the plan, the records, the cache and what is printed. A launched process plans the same step from
the same recipe, checks that it reads the same things, and makes it.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from loratools.errors import LaunchError
from loratools.launch.jobs import Jobs, running
from loratools.launch.launcher import Launcher, check_launch, make_launcher
from loratools.launch.rank import Rank
from loratools.recipe.plan.context import KeptModel, RunContext
from loratools.recipe.plan.planner import Planner
from loratools.recipe.plan.step import Outcome, Planned
from loratools.recipe.run.estimate import Peak
from loratools.recipe.schema.recipe import recipe_model
from loratools.yamlio import Document

_MODULES = {
    "loratools.train.trainer": ("train",),
    "loratools.preview.run": ("render_request",),
    "diffusers": ("AutoencoderKL", "UNet2DConditionModel"),
    "transformers": ("CLIPTextModel", "CLIPTokenizer"),
}
_KEPT = KeptModel()  # of a launched process, whose next step may draw on the same base


@dataclass(frozen=True)
class Made:
    """A step that was made: its outcome, and the bytes of memory that its process took at the peak."""

    outcome: Outcome
    memory: int


def make_here(planned: Planned, context: RunContext) -> Made:
    """Make a step in this process."""
    with Peak() as peak:
        outcome = planned.draft.make(planned.out, context)
    return Made(outcome, peak.bytes)


@dataclass(frozen=True)
class StepLauncher:
    """How the steps of one recipe are launched: by what, and planned by whom."""

    launcher: Launcher
    planner: Planner


def step_launcher(
    planner: Planner, device: str, processes: str | int | None = None, launch: str | None = None
) -> StepLauncher:
    """How a recipe's steps are launched: as ``processes`` or ``launch`` say, else as the recipe itself does.

    Raises:
        LaunchError: see :func:`~loratools.launch.launcher.make_launcher`.
    """
    return StepLauncher(make_launcher(*_asked(planner, processes, launch), device), planner)


def check_step_launcher(planner: Planner, processes: str | int | None = None, launch: str | None = None) -> None:
    """Raise what :func:`step_launcher` would raise on any machine, for a plan of what would be done.

    Raises:
        LaunchError: see :func:`~loratools.launch.launcher.check_launch`.
    """
    check_launch(*_asked(planner, processes, launch))


def _asked(planner: Planner, processes: str | int | None, launch: str | None) -> tuple[str | int | None, str | None]:
    """What the caller asks for, else the recipe."""
    asked = (processes, launch)
    return (planner.recipe.processes, planner.recipe.launch) if asked == (None, None) else asked


class LaunchedSteps:
    """The steps of one run that are launched; made by :func:`launching`.

    Args:
        on_note: called with what went wrong in a process whose work others did.
    """

    def __init__(self, jobs: Jobs, planner: Planner, on_note: Callable[[str], object]) -> None:
        self._jobs, self._planner, self._on_note = jobs, planner, on_note

    @property
    def slots(self) -> tuple[int, ...]:
        """The places in which launched processes run."""
        return self._jobs.launcher.slots

    def processes(self, planned: Planned) -> int:
        """The number of processes that a step gains from; 0 for one that is made in this process."""
        kind = planned.step_kind
        if not kind.loads_model or (self._jobs.launcher.command and kind.shared == "no"):
            return 0
        return 1 if kind.shared == "no" else max(1, planned.draft.most_processes)

    def prepare(self, groups: Sequence[Sequence[int]]) -> None:
        """Have processes in each of ``groups`` of places for the steps to come: those of a step that has run there, or
        others that read their modules meanwhile."""
        self._jobs.prepare(f"{__name__}:warm_up", groups)

    def make(self, planned: Planned, context: RunContext, slots: Sequence[int]) -> Made:
        """Make a step in a process for each of ``slots``.

        Raises:
            LoratoolsError: of the process that failed first.
        """
        arguments = _arguments(planned, self._planner, context)
        optional = planned.step_kind.shared == "optional"
        done = self._jobs.run(f"{__name__}:make_launched", arguments, slots, finish_alone=optional)
        for text in done.failed:
            self._on_note(
                f"the step '{planned.name}' is whole, though the other processes had to do without one: {text}"
            )
        value = done.value
        return Made(Outcome(value["summary"], value["facts"]), value["memory"])


@contextlib.contextmanager
def launching(
    launch: StepLauncher | None, context: RunContext, on_note: Callable[[str], object]
) -> Iterator[LaunchedSteps | None]:
    """While entered, steps can be launched; None where everything runs in this process.

    The work folder has to be locked: what earlier runs that were killed left of their jobs is deleted.
    """
    if launch is None or not launch.launcher.several:
        yield None
        return
    if context.judge is not None:
        raise LaunchError("a judge of one's own is a function of this process; leave out processes and launch")
    root = launch.planner.work / ".loratools" / "launch"
    shutil.rmtree(root, ignore_errors=True)
    with running(root, launch.launcher) as jobs:
        yield LaunchedSteps(jobs, launch.planner, on_note)


def _arguments(planned: Planned, planner: Planner, context: RunContext) -> dict[str, Any]:
    """What :func:`make_launched` is given, as JSON values."""
    return {
        "name": planned.name,
        "key": planned.key,
        "document": planner.document.json(),
        "plan": {
            "lora_dirs": list(planner.recipe.lora_dirs),
            "folder": str(planner.paths.folder),
            "work": str(planner.work),
            "base": planner.paths.base if planner.paths.rebased else None,
            "outs": {name: str(path) for name, path in planner.outs.items()},
        },
        "context": context.json(),
    }


def warm_up() -> None:
    """Import what every step that loads a model needs, and what planning it does."""
    recipe_model()
    for package, names in _MODULES.items():
        for name in names:
            getattr(import_module(package), name)  # diffusers and transformers import a part when it is asked for


def make_launched(
    name: str, key: str, document: Mapping[str, Any], plan: Mapping[str, Any], context: Mapping[str, Any]
) -> dict[str, Any]:
    """Make the step ``name``, as one of the processes that were launched for it.

    Args:
        key: that the step has in the process which launched this one.
        document, plan: what a planner is made of.
        context: fields of :class:`~loratools.recipe.plan.context.RunContext`.
    Returns:
        The outcome and the peak of memory.
    Raises:
        LaunchError: if the step reads other things here.
    """
    planned = _planned(name, document, plan)
    if planned.key != key:
        raise LaunchError(
            f"the step '{name}' reads other things here than in the process that started this one; all need the same "
            "recipe and the same files"
        )
    progress = context["progress"] and Rank.here().main
    own = RunContext(**{**context, "progress": progress}, lineage=planned.lineage, kept=_KEPT)
    if planned.draft.check is not None:
        planned.draft.check(own)
    made = make_here(planned, own)
    return {**asdict(made.outcome), "memory": made.memory}


def _planned(name: str, document: Mapping[str, Any], plan: Mapping[str, Any]) -> Planned:
    """The step as a planner like the first process' own resolves it."""
    source = Document.of_json(document)
    recipe = recipe_model().model_validate(source.data).model_copy(update={"lora_dirs": tuple(plan["lora_dirs"])})
    planner = Planner(recipe, source, Path(plan["folder"]), Path(plan["work"]), plan["base"])
    planner.outs |= {step: Path(path) for step, path in plan["outs"].items()}
    planner.plan([name])
    return planner.step(name)
