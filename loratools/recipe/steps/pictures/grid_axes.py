"""What differs between the pictures of a grid step: axes, weights, prompts, seeds and size, read by value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from loratools.errors import GridError, LoratoolsError
from loratools.preview.request.read_prompts import read_prompts
from loratools.recipe.plan.planner import StepRequest
from loratools.recipe.steps.pictures.grid_options import Grid
from loratools.recipe.steps.pictures.picture_size import check_size

if TYPE_CHECKING:
    from loratools.preview.request.axes import Axis


@dataclass(frozen=True)
class GridAxes:
    """What differs between a grid's pictures, by value.

    Args:
        axes: those at ``x``, ``y`` and ``z``; prompts in files are read, base models found.
        weights: None where axes stand in their place.
        seeds: None where an axis has them.
        size: [height, width] in pixels; None is the base's own.
        read: prompts that an axis names by their files, by its slot.
    """

    axes: tuple[Axis, ...]
    weights: list[float] | None
    seeds: list[int] | None
    size: list[int] | None
    prompts: list[str]
    sampler: str | None
    read: dict[str, list[str]] = field(default_factory=dict)

    def options(self) -> dict[str, Any]:
        """All but the axes, as the step's key has them."""
        return {
            "weights": self.weights,
            "seeds": self.seeds,
            "size": self.size,
            "prompts": self.prompts,
            "sampler": self.sampler,
        }


def read_grid_axes(step: StepRequest, settings: Grid) -> GridAxes:
    """The axes and the sampler by value.

    Raises:
        RecipeError: at the option, for what cannot be read, or says what was said before.
    """
    from loratools.base.sampling.samplers import find_sampler
    from loratools.preview.request.numbers import parse_seeds, parse_size, parse_weights
    from loratools.preview.request.request import USUAL_WEIGHTS

    axes = _slots(step, settings)
    weights = settings.weights or (None if axes else USUAL_WEIGHTS)
    seeds = settings.seeds or str(step.planner.recipe.seed)
    seeded = settings.seeds is None and any(axis.kind == "seed" for axis in axes)

    def read(key: str, reader: Callable[[], Any]) -> Any:
        try:
            return reader()
        except LoratoolsError as error:
            raise step.error(key, message=str(error)) from error

    values = GridAxes(
        tuple(axes),
        weights=read("weights", lambda: list(parse_weights(weights)) if weights else None),
        seeds=read("seeds", lambda: None if seeded else list(parse_seeds(seeds))),
        size=read("size", lambda: list(parse_size(settings.size)) if settings.size else None),
        prompts=read("prompts", lambda: read_prompts(settings.prompts, step.paths.find) if settings.prompts else []),
        sampler=read("sampler", lambda: find_sampler(settings.sampler).name if settings.sampler else None),
    )
    _check_axes(step, settings, values)
    if values.size:
        check_size(values.size, step, "size")
    resolved = tuple(_with_files(axis, step) for axis in axes)
    files = {
        axis.slot: [str(value) for value in own.values]
        for axis, own in zip(axes, resolved, strict=True)
        if axis.kind == "prompt" and axis != own
    }
    return replace(values, axes=resolved, read=files)


def _slots(step: StepRequest, settings: Grid) -> list[Axis]:
    from loratools.preview.request.axes import parse_axis

    axes = []
    for slot in ("x", "y", "z"):
        text = getattr(settings, slot)
        try:
            axes += [parse_axis(text, slot)] if text is not None else []
        except LoratoolsError as error:
            raise step.error(slot, message=str(error)) from error
    return axes


def _with_files(axis: Axis, step: StepRequest) -> Axis:
    """``axis`` with prompts in files read, and base models looked for beside the recipe, as its own base is."""
    find = step.paths.find
    if axis.kind == "base":
        paths = ((text, find(text)) for text in map(str, axis.values))
        return replace(axis, values=tuple(text if text == "pocket" or not path else str(path) for text, path in paths))
    if axis.kind != "prompt":
        return axis
    try:
        return replace(axis, values=tuple(dict.fromkeys(read_prompts([str(value) for value in axis.values], find))))
    except LoratoolsError as error:
        raise step.error(axis.slot, message=f"axis {axis.slot}: {error}") from error


def _check_axes(step: StepRequest, settings: Grid, values: GridAxes) -> None:
    """Raise RecipeError for an axis that says what is said before it, or that has nothing to change."""
    from loratools.preview.request.arrange import check_axes

    for count, axis in enumerate(values.axes, 1):
        try:
            check_axes(values.axes[:count], settings.rows, values.prompts)
        except GridError as error:
            raise step.error(axis.slot, message=str(error)) from error
        if axis.kind == "size":
            for value in axis.values:
                if isinstance(value, tuple):
                    check_size(value, step, axis.slot)
