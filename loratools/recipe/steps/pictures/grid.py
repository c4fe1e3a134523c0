"""``grid``: every row at every weight, or any axes, beside the base alone: pictures, a labelled sheet and a page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loratools.errors import LoratoolsError
from loratools.launch.rank import Rank
from loratools.recipe.plan.context import RunContext
from loratools.recipe.plan.lora_refs import check_base, vector_values, verdict_key
from loratools.recipe.plan.planner import StepRequest
from loratools.recipe.plan.step import Draft, Outcome, StepInput
from loratools.recipe.schema.kinds import StepKind, UnitCost
from loratools.recipe.steps.pictures.draw import check_style
from loratools.recipe.steps.pictures.grid_check import check_grid
from loratools.recipe.steps.pictures.grid_options import Grid
from loratools.recipe.steps.pictures.grid_scores import compared_with, score_request
from loratools.recipe.steps.pictures.grid_step import GridStep

if TYPE_CHECKING:
    from loratools.preview.run import GridResult
    from loratools.recipe.steps.pictures.grid_judge import JudgedPictures

KIND = StepKind("grid", Grid, "grid", revision=2, loads_model=True, shared="optional", guess=UnitCost(seconds=0.07))
_PORTION = 8  # pictures that one process takes at a time: with fewer it gains nothing from another
_DRAWN = ("title", "labels", "captions", "sheets", "full_size", "embed", "score")  # how the sheet and the page look
_SCORED = ("score_images", "held_out", "score_models")  # by content, and which of them each is
_ADDED = ("frames", "allow_unknown")  # left out where nothing is asked for, so that older keys stay
# what no result depends on beyond rounding; vectors count by value
_WORKED = ("presets", "compile", "mixed", "offload", "sliced", "tiled")
_Compared = Sequence[tuple[str, StepInput]]  # option -> what pictures are compared with


def draft(request: StepRequest) -> Draft:
    """Read rows, axes, weights, prompts, seeds and size, and find what they name."""
    grid = GridStep.read(request)
    if grid.settings.judge is not None:
        check_style(grid.settings.judge, request, "judge")
    compared = compared_with(grid.settings, request)
    inputs = _inputs(grid, compared)
    check_grid(grid)
    pictures = _pictures(grid)
    return Draft(
        _options(grid, compared),
        inputs,
        lambda out, context: _make(out, context, grid, compared),
        in_place=True,
        check=lambda context: _check_judge(grid, context),
        units=pictures * (grid.settings.steps or 20),
        most_processes=max(1, pictures // _PORTION),
    )


def _options(grid: GridStep, compared: _Compared) -> dict[str, Any]:
    """All that determines the result beside the inputs, as JSON values."""
    settings, presets = grid.settings, grid.presets
    axes = grid.axes.axes
    options = {
        **settings.model_dump(
            exclude={"weights", "seeds", "size", "prompts", "rows", "sampler", *_DRAWN, *_ADDED, *_WORKED, *_SCORED}
        ),
        **settings.model_dump(include={*_DRAWN, *_ADDED}, exclude_defaults=True),
        **grid.axes.options(),
        "rows": [[text, terms.options(presets)] for text, _, terms in grid.named],
        "vectors": [
            vector_values(str(value), presets) for axis in axes if axis.kind == "vector" for value in axis.values
        ],
    }
    if compared:
        options["compared"] = [key for key, _ in compared]
    if grid.axes.read:
        options["read"] = grid.axes.read
    if verdicts := _verdicts(grid):
        options["verdicts"] = verdicts
    return options


def _verdicts(grid: GridStep) -> list[str]:
    """Which epochs the ``best`` of an axis of epochs means, where verdicts say so; rows have it in their inputs."""
    if not any(axis.kind == "epoch" and "best" in axis.values for axis in grid.axes.axes):
        return []
    keys = (verdict_key(path) for terms in grid.terms for path in terms.paths.values())
    return [key for key in keys if key]


def _inputs(grid: GridStep, compared: _Compared) -> tuple[StepInput, ...]:
    """Base models, VAE, embeddings, what pictures are compared with, and the LoRAs."""
    paths, models, folder = grid.step.paths, grid.models(), _embeddings(grid)
    inputs: list[StepInput] = [
        *(models or [paths.base_input()]),
        *([paths.vae] if paths.vae else []),
        *([folder] if folder else []),
        *(source for _, source in compared),
    ]
    for _, place, terms in grid.named:
        if not models:
            check_base(terms, grid.step, *place)
        inputs += terms.inputs
    return tuple(inputs)


def _embeddings(grid: GridStep) -> StepInput | None:
    """The folder of embeddings, by the content of its files."""
    from loratools.base.prompt.embeddings import folder_digest

    text = grid.settings.embeddings
    if text is None:
        return None
    try:
        path = grid.step.paths.find(text) or Path(text)
        return StepInput(text, path, folder_digest(path))
    except LoratoolsError as error:
        raise grid.error("embeddings", message=str(error)) from error


def _pictures(grid: GridStep) -> int:
    """About how many pictures there will be: a bare run is a row for each of its epochs."""
    count = 0
    for terms in grid.terms:
        step = terms.inputs[0].step
        bare = len(terms.specs) == 1 and terms.specs[0].epoch is None and step is not None
        count += (len(grid.step.planner.step(step).draft.kept_epochs) or 1) if bare and step else 1
    weights = [weight for weight in grid.axes.weights or [1] if weight != 0]
    across = math.prod(len(axis.values) for axis in grid.axes.axes if axis.kind not in ("adapter", "epoch"))
    inner = max(1, len(grid.axes.prompts)) * max(1, len(grid.axes.seeds or ()))
    return (max(1, count) * len(weights) + 1) * across * inner


def _check_judge(grid: GridStep, context: RunContext) -> None:
    if grid.settings.judge is not None and grid.step.paths.base != "pocket" and context.judge is None:
        message = "the judge reads pictures of the pocket base only; remove `judge` for other bases"
        raise grid.error("judge", message=message)


def _make(out: Path, context: RunContext, grid: GridStep, compared: _Compared) -> Outcome:
    """The grid; of several processes each renders a part, and the first scores and draws it."""
    judged = _judged(out, context, grid)
    result = _render(out, context, grid, compared, judged)
    rows, rendered = result.grid.rows, result.rendered + result.elsewhere
    facts: dict[str, Any] = {"rows": [row.label for row in rows], "rendered": rendered, "png": str(result.png)}
    if judged is not None and Rank.here().main:
        facts["scores"] = judged.facts
    return Outcome(f"{len(rows)} rows, {rendered + result.reused} pictures, {rendered} of them rendered now", facts)


def _judged(out: Path, context: RunContext, grid: GridStep) -> JudgedPictures | None:
    """What the judge reads from the rows, where that is asked for."""
    from loratools.recipe.steps.pictures.grid_judge import JudgedPictures

    style = grid.settings.judge
    return None if style is None else JudgedPictures(out, style, context.judge_function())


def _render(
    out: Path, context: RunContext, grid: GridStep, compared: _Compared, judged: JudgedPictures | None
) -> GridResult:
    """The pictures, the sheet and the page."""
    from loratools.preview.run import GridOutput, render_request

    names = grid.names()
    request = grid.request(context.device, score_request(compared) if grid.settings.score else None)
    output = GridOutput(
        out,
        figures=[] if judged is None else [lambda folder, grid: judged],
        owner=grid.step.owner,
        force=context.force,
        progress=context.progress,
    )
    session, judge = context.kept.session(), context.judge_function()
    return render_request(request, grid.arrange(names), names, output, session, judge)
