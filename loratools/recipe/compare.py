"""Pictures of an edit: the recipe's merge before and after, or over sizes of the edit, beside the base alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from loratools.errors import RecipeError
from loratools.recipe.plan.context import RunContext
from loratools.recipe.plan.planner import Planner, StepRequest
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
) -> Path:
    """Render the base and the merge step of every text, on the prompts and seeds of the recipe's first grid step.

    What the merge needs is run first, if it is not cached; the merge step itself is run for the last of ``texts``.
    Pictures that are there already are used again.

    Args:
        texts: label -> the recipe's text.
        merge: the merge step.
        name: of the folder for the pictures below ``work``.
        work: ``runs/<the recipe's name>`` by default.
    Returns:
        The strip's path.
    Raises:
        RecipeError: if the recipe has no grid step, whose prompts are needed.
        LoratoolsError: of the step that fails.
    """
    from loratools.preview.request.rows import GridRow
    from loratools.preview.run import render_grid
    from loratools.preview.sheet.strip import Column, write_strip
    from loratools.recipe.steps.lora.merge import merge_terms

    planners = {label: _planner(recipe, text, work, base) for label, text in texts.items()}
    last = list(planners.values())[-1]
    step = _first_grid(last, recipe)
    request = step.request(context.device)
    run_steps(last.plan([merge]), last.work, context)
    rows = [GridRow.of_terms(merge_terms(merge, planner), label) for label, planner in planners.items()]
    out = last.work / name
    session = context.kept.session()
    result = render_grid(
        session.load(last.paths.base, request.model, offload=request.engine.offload),
        rows,
        [1.0],
        step.axes.prompts,
        out=out,
        sampling=request.sampling,
        seeds=step.axes.seeds or [last.recipe.seed],
        embeddings=request.embeddings,
        options=request.engine,
        owner=last.owner(f"blocks-{name}"),
        force=context.force,
        progress=context.progress,
        session=session,
    )
    columns = [Column("base", tuple(result.paths(rows[0].label, 0.0)))]
    columns += [Column(row.label, tuple(result.paths(row.label, 1.0))) for row in rows]
    write_strip(out / "strip.png", f"{recipe.name}: {merge}", columns)
    return out / "strip.png"


def _first_grid(planner: Planner, recipe: Path) -> GridStep:
    """The recipe's first grid step, without its rows, which a comparison does not show."""
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
