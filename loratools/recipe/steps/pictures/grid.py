"""``grid``: every row at every weight, or any axes, beside the base alone: pictures, a labelled sheet and a page."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loratools.errors import GridError, LoratoolsError
from loratools.preview.request.read_axes import (
    USUAL_WEIGHTS,
    GridRequest,
    NameLookup,
    build_arrangement,
    check_given,
    models_of,
)
from loratools.preview.request.read_rows import read_prompts
from loratools.recipe.plan.context import RunContext
from loratools.recipe.plan.lora_refs import Terms, check_base, read_terms, vector_values
from loratools.recipe.plan.planner import StepRequest
from loratools.recipe.plan.step import Draft, Outcome, StepInput
from loratools.recipe.schema.kinds import StepKind, UnitCost
from loratools.recipe.steps.pictures.grid_check import PlannedNames, check_grid, place_of
from loratools.recipe.steps.pictures.grid_options import Grid
from loratools.recipe.steps.pictures.grid_scores import compared_with, scored_by
from loratools.train.output.epoch_report import best_epoch

if TYPE_CHECKING:
    from loratools.base.model import Base
    from loratools.blocks.vector import Presets
    from loratools.preview.request.arrange import Arrangement
    from loratools.preview.request.options import EngineOptions, SheetOptions
    from loratools.preview.run import GridResult

KIND = StepKind("grid", Grid, "grid", revision=2, loads_model=True, shared="optional", guess=UnitCost(seconds=0.07))
_DRAWN = ("title", "labels", "captions", "sheets", "full_size", "embed", "score")  # how the sheet and the page look
_SCORED = ("score_images", "held_out", "score_models")  # by content, and which of them each is
_WORKED = ("presets", "compile", "offload", "sliced", "tiled")  # what no result depends on; vectors count by value


def draft(request: StepRequest) -> Draft:
    """Read rows, axes, weights, prompts, seeds and size, and find what they name."""
    settings = request.options(Grid)
    presets = request.presets(settings.presets)
    axes = read_axes(request, settings)
    named = [
        (text, place, read_terms(text, request, presets, *place))
        for text, place in _names(request, settings, axes, presets)
    ]
    options = {
        **settings.model_dump(
            exclude={"weights", "seeds", "size", "prompts", "rows", "sampler", *_DRAWN, *_WORKED, *_SCORED}
        ),
        **settings.model_dump(include=set(_DRAWN), exclude_defaults=True),
        **{key: value for key, value in axes.items() if key != "axes"},
        "rows": [[text, terms.options(presets)] for text, _, terms in named],
        "vectors": [
            vector_values(str(value), presets)
            for axis in axes["axes"]
            if axis.kind == "vector"
            for value in axis.values
        ],
    }
    if settings.judge is not None:
        _check_style(settings.judge, request)
    compared = compared_with(settings, request)
    if compared:
        options["compared"] = [key for key, _ in compared]
    models = _models(request, axes)
    folder = _embeddings(request, settings)
    sources: list[StepInput] = [
        *(models or [request.paths.base_input()]),
        *([request.paths.vae] if request.paths.vae else []),
        *([folder] if folder else []),
        *(source for _, source in compared),
    ]
    for _, place, terms in named:
        if not models:
            check_base(terms, request, *place)
        sources += terms.inputs
    rows = [terms for _, _, terms in named]
    check_grid(request, settings, _ahead(request, settings, axes, rows), rows)

    def assist(out: Path, context: RunContext) -> int:
        return _render(out, context, settings, axes, rows, request).rendered

    return Draft(
        options,
        tuple(sources),
        lambda out, context: _make(out, context, settings, axes, rows, compared, request),
        in_place=True,
        check=lambda context: _check_judge(request, settings, context),
        units=_pictures(rows, axes, request) * (settings.steps or 20),
        assist=assist,
    )


def _names(
    request: StepRequest, settings: Grid, axes: dict[str, Any], presets: Presets
) -> list[tuple[str, tuple[str | int, ...]]]:
    """Every merge string and where it stands: rows, values of an axis of adapters, tags in prompts."""
    from loratools.preview.request.prompt_loras import merge_string, take_tags

    found: list[tuple[str, tuple[str | int, ...]]] = [(text, ("rows", n)) for n, text in enumerate(settings.rows)]
    texts: list[tuple[str, tuple[str | int, ...]]] = [(text, ("prompts",)) for text in axes["prompts"]]
    for axis in axes["axes"]:
        if axis.kind == "adapter":
            found += [(str(value), (axis.slot,)) for value in axis.values]
        if axis.kind in ("prompt", "s/r"):
            texts += [(str(value), (axis.slot,)) for value in axis.values]
    for text, place in texts:
        try:
            found += [(merge_string([tag], presets), place) for tag in take_tags(text)[1]]
        except LoratoolsError as error:
            raise request.error(*place, message=str(error)) from error
    return found


def _models(request: StepRequest, axes: dict[str, Any]) -> list[StepInput]:
    """The base models on an axis."""
    from loratools.base.base_path import base_digest

    axis = next((axis for axis in axes["axes"] if axis.kind == "base"), None)
    names = [str(value) for value in axis.values] if axis is not None else []
    try:
        return [StepInput(text, request.paths.find(text) or Path(text), base_digest(text)) for text in names]
    except LoratoolsError as error:
        raise request.error(axis.slot if axis else "x", message=str(error)) from error


def _embeddings(request: StepRequest, settings: Grid) -> StepInput | None:
    """The folder of embeddings, by the content of its files."""
    from loratools.base.prompt.embeddings import folder_digest

    if settings.embeddings is None:
        return None
    try:
        path = request.paths.find(settings.embeddings) or Path(settings.embeddings)
        return StepInput(settings.embeddings, path, folder_digest(path))
    except LoratoolsError as error:
        raise request.error("embeddings", message=str(error)) from error


def _pictures(rows: Sequence[Terms], axes: dict[str, Any], request: StepRequest) -> int:
    """About how many pictures there will be: a bare run is a row for each of its epochs."""
    count = 0
    for terms in rows:
        step = terms.inputs[0].step
        bare = len(terms.specs) == 1 and terms.specs[0].epoch is None and step is not None
        count += (len(request.planner.step(step).draft.numbers) or 1) if bare and step else 1
    weights = [weight for weight in axes["weights"] or [1] if weight != 0]
    across = math.prod(len(axis.values) for axis in axes["axes"] if axis.kind not in ("adapter", "epoch"))
    inner = max(1, len(axes["prompts"])) * max(1, len(axes["seeds"] or ()))
    return (max(1, count) * len(weights) + 1) * across * inner


def read_axes(request: StepRequest, settings: Grid) -> dict[str, Any]:
    """The axes and the sampler by value; each mistake is told with its own line."""
    from loratools.base.sampling.samplers import find_sampler
    from loratools.preview.request.axes import parse_axis
    from loratools.preview.request.numbers import parse_seeds, parse_size, parse_weights

    slots = {slot: text for slot in ("x", "y", "z") if (text := getattr(settings, slot)) is not None}
    found: dict[str, Any] = {"axes": []}
    for slot, text in slots.items():
        try:
            found["axes"].append(parse_axis(text, slot))
        except LoratoolsError as error:
            raise request.error(slot, message=str(error)) from error
    weights = settings.weights or (None if slots else USUAL_WEIGHTS)
    seeds = settings.seeds or str(request.planner.recipe.seed)
    seeded = settings.seeds is None and any(axis.kind == "seed" for axis in found["axes"])
    readers: dict[str, Callable[[], Any]] = {
        "weights": lambda: list(parse_weights(weights)) if weights else None,
        "seeds": lambda: None if seeded else list(parse_seeds(seeds)),
        "size": lambda: list(parse_size(settings.size)) if settings.size else None,
        "prompts": lambda: read_prompts(settings.prompts, request.paths.find) if settings.prompts else [],
        "sampler": lambda: find_sampler(settings.sampler).name if settings.sampler else None,
    }
    for key, reader in readers.items():
        try:
            found[key] = reader()
        except LoratoolsError as error:
            raise request.error(key, message=str(error)) from error
    _check_axes(request, settings, found)
    if found["size"]:
        check_size(found["size"], request, "size")
    return found


def _check_axes(request: StepRequest, settings: Grid, found: dict[str, Any]) -> None:
    """Raise RecipeError for an axis that says what is said before it, or that has nothing to change."""
    from loratools.preview.request.arrange import check_axes

    given = _given(settings)
    for count, axis in enumerate(found["axes"], 1):
        try:
            check_given(axis, given, settings.seeds is not None)
            check_axes(found["axes"][:count], settings.rows, found["prompts"])
        except GridError as error:
            raise request.error(axis.slot, message=str(error)) from error
        if axis.kind == "size":
            for size in axis.values:
                check_size(size, request, axis.slot)


def _given(settings: Grid) -> frozenset[str]:
    """Settings that no axis may vary too."""
    given = {
        key.replace("_", " ")
        for key in ("cfg", "steps", "sampler", "size", "clip_skip")
        if getattr(settings, key) is not None
    }
    return frozenset(given | ({"negative"} if settings.negative else set()))


def check_size(size: Sequence[int], request: StepRequest, *place: str | int) -> None:
    """Raise RecipeError if the base's VAE cannot make pictures of ``size`` (height, width); a base that is not a folder
    of Diffusers here has the factor of all known families, 8."""
    from loratools.base import picture_size

    try:
        picture_size.check_size(size, picture_size.scale_factor_of_folder(request.paths.base_path()))
    except GridError as error:
        raise request.error(*place, message=str(error)) from error


def _check_judge(request: StepRequest, settings: Grid, context: RunContext) -> None:
    if settings.judge is not None and request.paths.base != "pocket" and context.judge is None:
        message = "the judge reads pictures of the pocket base only; remove `judge` for other bases"
        raise request.error("judge", message=message)


def _check_style(style: str, request: StepRequest) -> None:
    from loratools.recipe.steps.pictures.draw import check_style

    check_style(style, request, "judge")


def _make(
    out: Path,
    context: RunContext,
    settings: Grid,
    axes: dict[str, Any],
    rows: list[Terms],
    compared: Sequence[tuple[str, StepInput]],
    request: StepRequest,
) -> Outcome:
    with context.share(resumes=context.resume) as shared:
        result = _render(out, context, settings, axes, rows, request)
    built, rendered = result.grid.rows, result.rendered + shared.rendered
    facts: dict[str, Any] = {"rows": [row.label for row in built], "rendered": rendered, "png": str(result.png)}
    if settings.judge is not None:
        from loratools.recipe.steps.pictures.grid_judge import score_grid

        facts["scores"] = score_grid(out, settings.judge, context.judge_function(), _drawing(settings)).json()
    if settings.score:
        from loratools.preview.redraw import draw_scores

        draw_scores(out, scored_by(compared), context.judge_function(), _drawing(settings))
    pictures = result.rendered + result.elsewhere + result.reused
    return Outcome(f"{len(built)} rows, {pictures} pictures, {rendered} of them rendered now", facts)


def _render(
    out: Path, context: RunContext, settings: Grid, axes: dict[str, Any], rows: list[Terms], request: StepRequest
) -> GridResult:
    """The pictures, the sheet and the page; of several processes each renders a part, and the first draws the rest."""
    from loratools.base.load import load_base
    from loratools.base.vae import use_vae
    from loratools.preview.run import render_axes

    names = _names_there(settings, rows, request)
    arrangement = _arranged(settings, axes, names, request)
    models = models_of(arrangement, request.paths.base)

    def load(model: str) -> Base:
        base = load_base(model, device=context.device, dtype=settings.dtype)
        if request.paths.vae is not None:
            use_vae(base, request.paths.vae.path)
        return base

    first = load(models[0])
    return render_axes(
        first,
        arrangement,
        out=out,
        presets=names.presets,
        resolve=names.terms,
        load=lambda model: first if model == models[0] else load(model),
        options=_engine(settings),
        title=settings.title,
        drawing=_drawing(settings),
        embeddings=request.paths.find(settings.embeddings) if settings.embeddings else None,
        progress=context.progress,
        owner=request.owner,
        force=context.force,
    )


def _engine(settings: Grid) -> EngineOptions:
    from loratools.preview.request.options import EngineOptions

    return EngineOptions(
        settings.batch_size or 8,
        compiled=settings.compile,
        offload=settings.offload,
        sliced=settings.sliced,
        tiled=settings.tiled,
    )


def _drawing(settings: Grid) -> SheetOptions:
    from loratools.preview.request.options import SheetOptions

    return SheetOptions(settings.sheets, settings.full_size, settings.embed, settings.labels, settings.captions)


def arranged_ahead(request: StepRequest) -> Arrangement:
    """What a grid step will show, its rows by label alone.

    Raises:
        RecipeError: for what cannot be arranged.
    """
    settings = request.options(Grid)
    presets = request.presets(settings.presets)
    axes = read_axes(request, settings)
    rows = [read_terms(text, request, presets, *place) for text, place in _names(request, settings, axes, presets)]
    return _ahead(request, settings, axes, rows)


def _ahead(request: StepRequest, settings: Grid, axes: dict[str, Any], rows: Sequence[Terms]) -> Arrangement:
    there = _names_there(settings, rows, request)
    names = PlannedNames(there.lookup, there.find, there.presets, there.missing, there.best, planner=request.planner)
    return _arranged(settings, axes, names, request)


def _names_there(settings: Grid, rows: Sequence[Terms], request: StepRequest) -> NameLookup:
    places = {ref: path for terms in rows for ref, path in terms.paths.items()}
    presets = request.presets(settings.presets)
    return NameLookup(lambda ref: places[ref], request.paths.find, presets, settings.missing, best_epoch)


def _arranged(settings: Grid, axes: dict[str, Any], names: NameLookup, request: StepRequest) -> Arrangement:
    """The axes in their places."""
    from loratools.preview.request.setting import Setting

    asked = GridRequest(
        settings.rows,
        {axis.slot: getattr(settings, axis.slot) for axis in axes["axes"]},
        settings.weights,
        settings.prompts,
        axes["seeds"],
        _given(settings),
        settings.base_alone,
        settings.most,
    )
    start = Setting(
        "",
        0,
        settings.negative,
        steps=settings.steps,
        cfg=settings.cfg,
        sampler=axes["sampler"],
        size=tuple(axes["size"]) if axes["size"] else None,
        clip_skip=settings.clip_skip or 1,
        noise=settings.noise,
    )
    try:
        return build_arrangement(asked, start, names)
    except LoratoolsError as error:
        raise request.error(*place_of(str(error), settings), message=str(error)) from error
