"""Pictures of an edit: the recipe's merge before and after, or over sizes of the edit, beside the base alone.

Several processes can render them; each reads the texts, and the first draws the strip.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loratools.errors import RecipeError
from loratools.launch.jobs import running
from loratools.launch.launcher import Launcher
from loratools.launch.rank import Rank
from loratools.recipe.plan.context import RunContext
from loratools.recipe.plan.planner import Planner, StepRequest
from loratools.recipe.run.launched import StepLauncher
from loratools.recipe.run.runner import planner_of, run_steps
from loratools.recipe.schema.recipe import check_recipe
from loratools.yamlio import load_yaml

if TYPE_CHECKING:
    from loratools.recipe.steps.pictures.grid_step import GridStep


def compare(
    recipe: Path,
    texts: Mapping[str, str],
    merge: str,
    context: RunContext,
    *,
    name: str = "fix",
    work: Path | None = None,
    base: str | None = None,
    launcher: Launcher | None = None,
) -> Path:
    """Render the base and the merge step of every text, on the prompts and seeds of the recipe's first grid step.

    What the merge needs is run first, if it is not cached; the merge step itself is run for the last of ``texts``.
    Pictures that are there already are used again.

    Args:
        texts: label -> the recipe's text.
        merge: the merge step.
        name: of the folder for the pictures below ``work``.
        work: ``runs/<the recipe's name>`` by default.
        launcher: of the processes that steps run in, and that render.
    Returns:
        The strip's path.
    Raises:
        RecipeError: if the recipe has no grid step, whose prompts are needed.
        LoratoolsError: of the step that fails.
    """
    last = _planner(recipe, list(texts.values())[-1], work, base)
    first_grid(last, recipe)
    launch = None if launcher is None else StepLauncher(launcher, last)
    run_steps(last.plan([merge]), last.work, context, launch=launch)
    arguments: dict[str, Any] = {
        "recipe": str(recipe),
        "texts": dict(texts),
        "merge": merge,
        "name": name,
        "work": None if work is None else str(work),
        "base": base,
        "context": context.json(),
    }
    if launcher is None or not launcher.several:
        render_strip(**arguments)
    else:
        with running(last.work / ".loratools" / f"launch-{name}", launcher) as jobs:
            jobs.run(f"{__name__}:render_strip", arguments, launcher.slots, finish_alone=True)
    return last.work / name / "strip.png"


def render_strip(
    recipe: str,
    texts: Mapping[str, str],
    merge: str,
    name: str,
    work: str | None,
    base: str | None,
    context: Mapping[str, Any],
) -> None:
    """Render the pictures of :func:`compare`, whose merge has run, and draw the strip; in each of several processes.

    Args:
        context: fields of :class:`~loratools.recipe.plan.context.RunContext`.
    """
    from loratools.preview.request.rows import GridRow
    from loratools.preview.run import render_grid
    from loratools.preview.sheet.strip import Column, write_strip
    from loratools.recipe.steps.lora.merge import merge_terms

    own, folder = RunContext(**context), None if work is None else Path(work)
    planners = {label: _planner(Path(recipe), text, folder, base) for label, text in texts.items()}
    last = list(planners.values())[-1]
    step = first_grid(last, Path(recipe))
    request = step.request(own.device)
    rows = [GridRow.of_terms(merge_terms(merge, planner), label) for label, planner in planners.items()]
    out = last.work / name
    session = own.kept.session()
    result = render_grid(
        session.load(last.paths.base, request.model, offload=request.engine.offload),
        rows,
        [1.0],
        step.axes.prompts,
        out=out,
        sampling=request.sampling,
        seeds=step.axes.seeds or [last.recipe.seed],
        embeddings=request.model.embeddings,
        options=request.engine,
        owner=last.owner(f"blocks-{name}"),
        force=own.force,
        progress=own.progress,
        session=session,
    )
    if not Rank.here().main:
        return
    columns = [Column("base", tuple(result.paths(rows[0].label, 0.0)))]
    columns += [Column(row.label, tuple(result.paths(row.label, 1.0))) for row in rows]
    write_strip(out / "strip.png", f"{Path(recipe).name}: {merge}", columns)


def first_grid(planner: Planner, recipe: Path) -> GridStep:
    """The recipe's first grid step, without its rows, which a comparison does not show.

    Raises:
        RecipeError: if it has none.
    """
    from loratools.recipe.steps.pictures.grid_axes import read_grid_axes
    from loratools.recipe.steps.pictures.grid_options import Grid
    from loratools.recipe.steps.pictures.grid_step import GridStep

    name = next((name for name, step in planner.recipe.steps.items() if step.kind == "grid"), None)
    if name is None:
        raise RecipeError(f"{recipe} has no grid step, whose prompts and seeds the pictures need; add one")
    request = StepRequest(name, planner)
    settings = request.options(Grid)
    return GridStep(request, settings, read_grid_axes(request, settings), ())


def _planner(recipe: Path, text: str, work: Path | None, base: str | None) -> Planner:
    checked, document = check_recipe(load_yaml(text, str(recipe)))
    return planner_of(checked, document, recipe.parent, work or Path("runs") / recipe.stem, base)
