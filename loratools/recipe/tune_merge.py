"""Tuning the vectors of a recipe's merge step: what it needs is run, the search looks at its pictures, the numbers are
written into the recipe as a fix writes its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from loratools.errors import LaunchError, RecipeError
from loratools.launch.launcher import Launcher
from loratools.recipe.compare import first_grid
from loratools.recipe.edit.locate import merge_text
from loratools.recipe.edit.log import EditResult
from loratools.recipe.edit.numbers import NewNumbers, set_numbers
from loratools.recipe.plan.context import RunContext
from loratools.recipe.plan.planner import Planner
from loratools.recipe.plan.step import Planned
from loratools.recipe.run.launched import StepLauncher
from loratools.recipe.run.runner import planner_of, run_steps, state_of
from loratools.recipe.run.work_folder import WorkFolder
from loratools.recipe.schema.recipe import read_recipe

if TYPE_CHECKING:
    from loratools.ops.merging.terms import Term
    from loratools.train.distributed import Ranks
    from loratools.tune.asking.by_votes import Chooser
    from loratools.tune.dry_run.report import TuneDryRun
    from loratools.tune.problem.request import TuneRequest
    from loratools.tune.progress import OnProgress
    from loratools.tune.report.result import TuneResult


@dataclass(frozen=True, eq=False)
class TunedRecipe:
    """The search's result, and what it changed in the recipe."""

    result: TuneResult
    edit: EditResult


def tune_recipe(
    recipe: Path,
    request: TuneRequest,
    out: Path,
    context: RunContext,
    *,
    merge: str | None = None,
    work: Path | None = None,
    base: str | None = None,
    dtype: str | None = None,
    ranks: Ranks | None = None,
    on_progress: OnProgress | None = None,
    on_note: Callable[[str], None] | None = None,
    votes: Path | None = None,
    chooser: Chooser | None = None,
) -> TunedRecipe:
    """Tune the merge step of ``recipe`` and edit its vector in place; not before a person has answered all questions.

    Args:
        request: without prompts, those of the recipe's first grid step are used, with its sampling.
        out: the folder of the search.
        merge: the merge step, where the recipe has several.
        work: where the recipe's results go; ``runs/<its name>`` by default.
        base: instead of the recipe's own.
        ranks: of several processes that all call this, in one process group, when what the merge needs is there
            (:func:`make_needed`); the first one edits the recipe.
        votes, chooser: as of :func:`loratools.tune.tuning.tune`.
    Raises:
        RecipeError: before anything is drawn, if the recipe's vector cannot be edited.
        LoratoolsError: of a step that fails, or as :func:`loratools.tune.tune`.
    """
    from loratools.recipe.steps.lora.merge import merge_terms
    from loratools.train.distributed import Ranks
    from loratools.tune.tuning import tune

    ranks = ranks or Ranks()
    if ranks.world == 1:
        make_needed(recipe, context, merge=merge, work=work, base=base)
    planner, step = _planned(recipe, merge, work, base)
    if missing := [name for name in planner.step(step).needs if not planner.step(name).out.exists()]:
        raise LaunchError(
            f"the merge reads '{missing[0]}', which one process has to make first; leave the launcher out, and give "
            "its command by `launch=accelerate launch ...`"
        )
    terms = merge_terms(step, planner)
    set_numbers(recipe, _any_numbers(terms), merge=merge, dry_run=True)
    result = tune(
        context.kept.base(planner.paths.base, context.device, dtype),
        terms,
        _with_grids(request, planner),
        out,
        on_progress=on_progress,
        on_note=on_note,
        owner=_owner(recipe, step),
        force=context.force,
        ranks=ranks,
        votes=votes,
        chooser=chooser,
    )
    symptoms = " and ".join(request.symptoms)
    say = f"{symptoms}: {result.verdict.answer} vector of {out.name}/tune.json"
    amount = 1.0 if result.amount is None else result.amount
    numbers = NewNumbers.of_weights(result.space.shortest(result.point), amount, say)
    unchanged = not ranks.main or bool(result.waiting)  # another vector would be another tune
    return TunedRecipe(result, set_numbers(recipe, numbers, merge=merge, dry_run=unchanged))


@dataclass(frozen=True)
class RecipeDryRun:
    """What tuning a recipe would do.

    Attributes:
        first: steps that would be run before, which the merge needs.
        tune: the tune itself; None where these have to be there before it can be told.
    """

    first: tuple[str, ...]
    tune: TuneDryRun | None


def dry_run_recipe(
    recipe: Path,
    request: TuneRequest,
    out: Path,
    context: RunContext,
    *,
    merge: str | None = None,
    work: Path | None = None,
    base: str | None = None,
    dtype: str | None = None,
) -> RecipeDryRun:
    """What :func:`tune_recipe` would do; nothing is run, loaded or written.

    Raises:
        LoratoolsError: what it would raise before its first picture.
    """
    from loratools.base.any_base import load_any_base
    from loratools.recipe.steps.lora.merge import merge_terms
    from loratools.tune.dry_run.make import GIVEN, tune_dry_run

    planner, step = _planned(recipe, merge, work, base)
    set_numbers(recipe, NewNumbers({}), merge=merge, dry_run=True)
    folder = WorkFolder(planner.work)
    first = tuple(own.name for own in _needed(planner, step) if state_of(folder, own) != "cached")
    if first:
        return RecipeDryRun(first, None)
    terms = merge_terms(step, planner)
    set_numbers(recipe, _any_numbers(terms), merge=merge, dry_run=True)
    wanted = _with_grids(request, planner)
    tune = tune_dry_run(
        load_any_base(planner.paths.base, device=context.device, dtype=dtype, weights=False),
        terms,
        wanted,
        out,
        owner=_owner(recipe, step),
        force=context.force,
        source=GIVEN if request.prompts else "those of the recipe's first grid",
        edits=str(recipe),
    )
    return RecipeDryRun((), tune)


def _owner(recipe: Path, step: str) -> str:
    """Of the files that a tune writes."""
    return f"blocks tune {recipe.name}:{step}"


def _any_numbers(terms: Sequence[Term]) -> NewNumbers:
    """Numbers of every block and every kind of layers that a tune of ``terms`` may write."""
    from loratools.blocks.layer_kinds import layer_kinds
    from loratools.blocks.scheme import full_scheme
    from loratools.tune.problem.space import blocks_of

    tuned = next((term.adapter for term in terms if term.weight > 0), None)
    if tuned is None:
        return NewNumbers({})
    kinds = layer_kinds(tuned, full_scheme(tuned.family))
    rules = {rule: 1.0 for own in kinds.values() for rule in own}
    return NewNumbers(dict.fromkeys(blocks_of(tuned), 1.0), rules=rules)


def make_needed(
    recipe: Path,
    context: RunContext,
    *,
    merge: str | None = None,
    work: Path | None = None,
    base: str | None = None,
    launcher: Launcher | None = None,
) -> None:
    """Run what the merge step of :func:`tune_recipe` reads, as far as it is not cached.

    Args:
        launcher: of the processes that steps run in.
    Raises:
        RecipeError: before anything runs, if the recipe's vector cannot be edited.
        LoratoolsError: of a step that fails.
    """
    planner, step = _planned(recipe, merge, work, base)
    set_numbers(recipe, NewNumbers({}), merge=merge, dry_run=True)
    if needed := _needed(planner, step):
        launch = None if launcher is None else StepLauncher(launcher, planner)
        run_steps(needed, planner.work, context, launch=launch)


def _needed(planner: Planner, step: str) -> list[Planned]:
    """What the merge ``step`` needs, in an order in which it can run; not the merge itself, whose numbers are going to
    change."""
    planner.step(step)
    return [own for own in planner.plan(()) if own.name != step]


def _planned(recipe: Path, merge: str | None, work: Path | None, base: str | None) -> tuple[Planner, str]:
    """The recipe's planner, and the merge step's name."""
    checked, document = read_recipe(recipe)
    step = merge_text(document, checked, merge).step
    return planner_of(checked, document, recipe.parent, work or Path("runs") / recipe.stem, base), step


def _with_grids(request: TuneRequest, planner: Planner) -> TuneRequest:
    """The request with the prompts of the recipe's first grid, where it has none of its own, and with the grid's
    sampling, as far as it asks for none."""
    if request.prompts:
        return request
    try:
        grid = first_grid(planner, Path(planner.document.source))
    except RecipeError:
        return request
    prompts = tuple(dict.fromkeys(grid.axes.prompts))
    sampling = request.sampling.over(grid.sampling)
    if len(prompts) < 2:  # the tags of the LoRA's header give more
        return replace(request, sampling=sampling)
    return replace(request, prompts=prompts, sampling=sampling)
