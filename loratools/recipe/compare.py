"""Pictures of an edit: the recipe's merge before and after, or over sizes of the edit, beside the base alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from loratools.errors import RecipeError
from loratools.recipe.plan.context import RunContext
from loratools.recipe.plan.planner import Planner, StepRequest
from loratools.recipe.run.runner import planner_of, run_steps
from loratools.recipe.schema.recipe import check_recipe
from loratools.yamlio import load_yaml


@dataclass(frozen=True)
class Compared:
    """The strip, and the grid's folder that its pictures are from."""

    strip: Path
    folder: Path
    rendered: int


def compare(
    recipe: Path,
    texts: Mapping[str, str],
    merge: str,
    context: RunContext,
    *,
    name: str = "fix",
    work: Path | None = None,
    base: str | None = None,
) -> Compared:
    """Render the base and the merge step of every text, on the prompts and seeds of the recipe's first grid step.

    What the merge needs is run first, if it is not cached; the merge step itself is run for the last of ``texts``.
    Pictures that are there already are used again.

    Args:
        texts: label -> the recipe's text.
        merge: the merge step.
        name: of the folder below ``work``; ``runs/<the recipe's name>`` by default.
    Raises:
        RecipeError: if the recipe has no grid step, whose prompts are needed.
        LoratoolsError: of the step that fails.
    """
    from loratools.base.load import load_base
    from loratools.preview.request.rows import GridRow
    from loratools.preview.run import render_grid
    from loratools.preview.sheet.strip import Column, write_strip
    from loratools.recipe.steps.lora.merge import merge_terms
    from loratools.recipe.steps.pictures.grid import read_axes
    from loratools.recipe.steps.pictures.grid_options import Grid

    planners = {label: _planner(recipe, text, work, base) for label, text in texts.items()}
    last = list(planners.values())[-1]
    grid = next((name for name, step in last.recipe.steps.items() if step.kind == "grid"), None)
    if grid is None:
        raise RecipeError(f"{recipe} has no grid step, whose prompts and seeds the pictures need; add one")
    request = StepRequest(grid, last)
    settings = request.options(Grid)
    axes = read_axes(request, settings)
    run_steps(last.plan([merge]), last.work, context)
    rows = [GridRow.of_terms(merge_terms(merge, planner), label) for label, planner in planners.items()]
    out = last.work / name
    result = render_grid(
        load_base(last.paths.base, device=context.device, dtype=settings.dtype),
        rows,
        [1.0],
        axes["prompts"],
        out=out,
        negative=settings.negative,
        seeds=axes["seeds"],
        steps=settings.steps,
        cfg=settings.cfg,
        sampler=axes["sampler"],
        size=tuple(axes["size"]) if axes["size"] else None,
        clip_skip=settings.clip_skip or 1,
        batch_size=settings.batch_size or 8,
        progress=context.progress,
        owner=last.owner(f"blocks-{name}"),
        force=context.force,
    )
    columns = [Column("base", tuple(result.paths(rows[0].label, 0.0)))]
    columns += [Column(row.label, tuple(result.paths(row.label, 1.0))) for row in rows]
    write_strip(out / "strip.png", f"{recipe.name}: {merge}", columns)
    return Compared(out / "strip.png", out, result.rendered)


def _planner(recipe: Path, text: str, work: Path | None, base: str | None) -> Planner:
    checked, document = check_recipe(load_yaml(text, str(recipe)))
    return planner_of(checked, document, recipe.parent, work or Path("runs") / recipe.stem, base)
