"""Running a recipe: each step whose key is new, in order; what was made before and is still whole is not made again."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from loratools.errors import FileError, LaunchError, OptionError, RecipeError
from loratools.launch.rank import Rank
from loratools.recipe.observer import RunObserver, StepResult
from loratools.recipe.plan.context import RunContext
from loratools.recipe.plan.planner import Planner
from loratools.recipe.plan.step import Planned
from loratools.recipe.run.cache import DEFAULT_LIMIT
from loratools.recipe.run.launched import LaunchedSteps, StepLauncher, launching, make_here
from loratools.recipe.run.scheduler import Places, run_in_order
from loratools.recipe.run.work_folder import WorkFolder, short_path
from loratools.recipe.schema.recipe import Recipe, read_recipe
from loratools.recipe.shipped import RECIPES
from loratools.yamlio import Document


def find_recipe(name: str | Path) -> Path:
    """The recipe file ``name``; a shipped one of that file name where there is no such file.

    Raises:
        RecipeError: if there is neither.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    shipped = RECIPES / path.name
    if shipped.is_file() and path.parent.name in ("", "recipes"):
        return shipped
    have = ", ".join(sorted(item.name for item in RECIPES.glob("*.yaml")))
    raise RecipeError(f"there is no recipe {path}; give a .yaml file, or the name of one that ships: {have}")


def make_planner(
    path: str | Path, work: Path | None = None, base: str | None = None, values: Mapping[str, str] | None = None
) -> Planner:
    """Read the recipe at ``path`` and get ready to resolve its steps; nothing is written.

    Args:
        work: where results go; ``runs/<the recipe's name>`` in the current folder by default.
        base: instead of the recipe's own base.
        values: variables by name, as text, instead of the recipe's own.
    Raises:
        RecipeError: see :func:`loratools.recipe.schema.recipe.read_recipe`.
    """
    file = find_recipe(path)
    recipe, document = read_recipe(file, values)
    return planner_of(recipe, document, file.parent, work or default_work(file), base)


def default_work(path: str | Path) -> Path:
    """Where the results of the recipe at ``path`` go by default."""
    return Path("runs") / Path(path).stem


def planner_of(recipe: Recipe, document: Document, folder: Path, work: Path, base: str | None = None) -> Planner:
    """A planner for a recipe in hand."""
    return Planner(recipe, document, folder, work, base)


def targets_of(planner: Planner, kind: str) -> list[str]:
    """The steps of one kind.

    Raises:
        RecipeError: if there is none.
    """
    names = [name for name, step in planner.recipe.steps.items() if step.kind == kind]
    if not names:
        source = planner.document.source
        raise RecipeError(f"{source} has no {kind} step; `loratools run {source}` runs the steps that it has")
    return names


def state_of(folder: WorkFolder, planned: Planned) -> str:
    """``cached``, ``kept`` (in the cache, not in the work folder), ``unfinished`` or ``to do``, for a dry run."""
    if folder.fresh(planned) is not None:
        return "cached"
    record = folder.record(planned.name)
    unfinished = record is not None and record.key == planned.key and not record.done
    return "unfinished" if unfinished else "kept" if folder.in_cache(planned) else "to do"


def run_steps(
    steps: Sequence[Planned],
    work: Path,
    context: RunContext,
    *,
    cache: Path | None = None,
    limit: int = DEFAULT_LIMIT,
    jobs: int = 1,
    launch: StepLauncher | None = None,
    observer: RunObserver | None = None,
) -> list[StepResult]:
    """Run ``steps`` in their order. Each result is recorded as soon as it is complete, so that a run that is killed
    or fails loses no finished step, and the next one goes on from there. Where a step fails, those that do not need it
    still run.

    Args:
        cache: a folder of finished results to share with other work folders; the work folder's own by default.
        limit: bytes that the cache may take beside the outputs; the least recently used go first.
        jobs: how many steps that do not need each other run at once in this process.
        launch: runs steps that load a model in processes of their own, on different GPUs at once where they do not need
            each other, or one step in several.
        observer: is called as the run goes on.
    Raises:
        OptionError: if ``jobs`` is below 1.
        LoratoolsError: of the first step that failed; FileError if another run holds the work folder; LaunchError if
            this is one of several processes.
    """
    check_alone()
    if jobs < 1:
        raise OptionError(f"jobs {jobs}: write a whole number from 1")
    observer = observer or RunObserver()
    for planned in steps:
        _check_out(planned)
        if planned.draft.check is not None:
            planned.draft.check(context)
    folder = WorkFolder(work, cache)

    with folder.locked(), launching(launch, context, observer.on_note) as launched:
        maker = _Maker(folder, context, observer, launched)
        places = None if launched is None else Places(launched.slots, maker.processes, launched.prepare)
        results, failures = run_in_order(steps, maker.run, jobs, observer.on_fail, places)
        with contextlib.suppress(OSError, FileError):  # tidying is no reason to fail
            folder.cache.gc(limit, {planned.identity for planned in steps})
        with contextlib.suppress(*([Exception] if failures else [])):  # the step's own error is the one to raise
            observer.on_end(results, failures)
        if failures:
            raise failures[0].error
    return results


@dataclass(frozen=True)
class _Maker:
    """Makes the steps of one run: here, or in processes that are launched."""

    folder: WorkFolder
    context: RunContext
    observer: RunObserver
    launched: LaunchedSteps | None
    there: dict[str, StepResult | None] = field(default_factory=dict)  # results from before, of the steps looked at

    def processes(self, planned: Planned) -> int:
        """The number of processes that a step gains from; 0 for one that needs none, since its result is there."""
        if self.launched is None:
            return 0
        if planned.name not in self.there:
            self.there[planned.name] = self._cached(planned)
        if self.there[planned.name] is not None or self.folder.in_cache(planned):
            return 0
        return self.launched.processes(planned)

    def run(self, planned: Planned, slots: Sequence[int]) -> StepResult:
        """The result of a step, from before or made now; in launched processes where it is given ``slots``."""
        result = self.there.get(planned.name) or self._cached(planned) or self._made(planned, slots)
        self.observer.on_done(result)
        return result

    def _cached(self, planned: Planned) -> StepResult | None:
        record = self.folder.fresh(planned)
        return None if record is None else StepResult(planned, record, True)

    def _made(self, planned: Planned, slots: Sequence[int]) -> StepResult:
        with self.folder.cache.making(planned.identity, lambda: self.observer.on_wait(planned)):
            resume = self.folder.begin(planned)
            if (kept := self._cached(planned)) is not None:
                return kept
            self.observer.on_start(planned)
            context = replace(self.context, resume=resume, lineage=planned.lineage)
            begun = time.perf_counter()
            if slots and self.launched is not None:
                made = self.launched.make(planned, context, slots)
            else:
                made = make_here(planned, context)
            seconds = time.perf_counter() - begun
            return StepResult(planned, self.folder.finish(planned, made.outcome, seconds, made.memory), False)


def check_alone() -> None:
    """Raise LaunchError where a launcher started several processes of what starts processes itself."""
    rank = Rank.here()
    if rank.world > 1:
        raise LaunchError(
            f"a launcher started {rank.world} processes of this, which starts those itself that its steps gain "
            "from; leave the launcher out, and give its command by `launch=accelerate launch ...`"
        )


def _check_out(planned: Planned) -> None:
    if planned.step_kind.makes_file and planned.out.suffix != ".safetensors":
        raise FileError(f"the step '{planned.name}' writes {short_path(planned.out)}; end its `out` in .safetensors")
    if not planned.step_kind.makes_file and planned.out.is_file():
        raise FileError(
            f"the step '{planned.name}' needs a folder, and {short_path(planned.out)} is a file; name another `out`"
        )
