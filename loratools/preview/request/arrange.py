"""Which axes a grid has, in which order, and where the base stands: from what was asked for to every place."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from loratools.blocks.webui_tag import has_tag, take_tags
from loratools.errors import GridError
from loratools.preview.request.axes import AXIS_KINDS, Axis
from loratools.preview.request.numbers import with_base_first
from loratools.preview.request.rows import GridRow
from loratools.preview.request.setting import CellSetting, applied

MOST = 5000  # pictures in one grid, unless more are asked for
_SLOTS = ("x", "y", "z", "z2", "z3", "z4")
_ADDING = ("weight", "adapter", "vector", "block", "te", "unet", "s/r", "prompt")


@dataclass(frozen=True)
class Arrangement:
    """The axes of a grid: across, down, then further ones; ``start`` is what no axis changes."""

    axes: tuple[Axis, ...]
    start: CellSetting

    @property
    def count(self) -> int:
        """Places, of which some may show the same picture."""
        return math.prod(len(axis.values) for axis in self.axes)

    def places(self) -> Iterator[tuple[tuple[int, ...], CellSetting]]:
        """Every place, the first axis slowest, with what is asked of its picture.

        Raises:
            GridError: if a text that is to be replaced does not stand in the prompts.
        """
        for at in itertools.product(*(range(len(axis.values)) for axis in self.axes)):
            yield at, applied(self.start, self.axes, at)

    def base_of(self, at: Sequence[int]) -> tuple[int, ...] | None:
        """The place of the base that ``at`` is compared with, or None where the grid has none."""
        for n, axis in enumerate(self.axes):
            if (place := base_place(axis)) is not None:
                return (*at[:n], place, *at[n + 1 :])
        return None


def base_place(axis: Axis) -> int | None:
    """Where on an axis the base alone stands: at None, or at a weight of 0."""
    for place, value in enumerate(axis.values):
        if value is None or (axis.kind == "weight" and not axis.term and value == 0):
            return place
    return None


def arrange(
    asked: Sequence[Axis],
    start: CellSetting,
    *,
    rows: Sequence[GridRow] = (),
    weights: Sequence[float] | None = None,
    prompts: Sequence[str] = (),
    seeds: Sequence[int] = (),
    base: bool = True,
    most: int = MOST,
) -> Arrangement:
    """Every axis in its place.

    Several ``rows``, and ``weights`` where they are given, take the first places that ``asked`` leaves free: rows go
    down, weights across. Several prompts and seeds fill each place.

    Args:
        base: whether the base alone stands in front of the axis that adds to it.
    Raises:
        GridError: for two axes that say the same, one that has nothing to change, or more than ``most`` pictures.
    """
    axes = {axis.slot: axis for axis in asked}
    if len(axes) < len(asked):
        raise GridError("two axes stand at the same place; give x, y and z once each")
    kinds = {axis.kind for axis in asked if not axis.term}
    if weights is not None and "weight" not in kinds:
        _fill(axes, Axis("weight", tuple(weights)), "x")
        kinds.add("weight")
    check_axes(list(axes.values()), [row.label for row in rows], prompts)
    seen = "adapter" in kinds or not rows
    if not seen and (
        len(rows) > 1 or len(axes) < 2 or not any(AXIS_KINDS[axis.kind].changes_lora for axis in axes.values())
    ):
        _fill(axes, Axis("adapter", tuple(rows)), "y")
    ordered = [axes[slot] for slot in sorted(axes)]
    only = rows[0] if len(rows) == 1 else None
    ordered += [Axis("prompt", tuple(dict.fromkeys(prompts)))] if "prompt" not in kinds else []
    ordered += [Axis("seed", tuple(dict.fromkeys(seeds)))] if "seed" not in kinds else []
    start = replace(start, row=only)
    arrangement = Arrangement(tuple(_with_base(ordered, prompts) if base else ordered), start)
    if arrangement.count > most:
        sizes = " x ".join(f"{len(axis.values)} {axis.title}" for axis in arrangement.axes if len(axis.values) > 1)
        raise GridError(
            f"the axes ask for {sizes} = {arrangement.count} pictures, and {most} are allowed; ask for fewer, or "
            f"allow them with `most={arrangement.count}`",
            option="most",
        )
    return arrangement


def _fill(axes: dict[str, Axis], axis: Axis, first: str) -> None:
    """Put ``axis`` at ``first`` if that is free, else at the first free place; beyond z they are sub-grids as well."""
    slot = next(slot for slot in (first, *_SLOTS) if slot not in axes)
    axes[slot] = replace(axis, slot=slot)


def check_axes(asked: Sequence[Axis], labels: Sequence[str], prompts: Sequence[str]) -> None:
    """Raise GridError for axes that say the same, or have nothing to change, beside rows of these labels."""
    seen: dict[tuple[str, str, str], str] = {}
    texts = [*prompts, *(str(value) for axis in asked if axis.kind in ("prompt", "s/r") for value in axis.values)]
    added = bool(labels) or any(axis.kind == "adapter" for axis in asked) or any(has_tag(text) for text in texts)
    if twice := next((label for label in labels if labels.count(label) > 1), None):
        raise GridError(f"two rows are called '{twice}'; give each once, by a name of its own")
    for axis in asked:
        own = (axis.kind, axis.term, axis.block)
        if own in seen and axis.kind != "s/r":
            raise GridError(
                f"the axes {seen[own]} and {axis.slot} both change the {axis.title}; give it once", axis=axis.slot
            )
        seen[own] = axis.slot
        if axis.kind == "adapter" and labels:
            raise GridError(f"the rows and the axis {axis.slot} both name what is added; give it once", axis=axis.slot)
        if AXIS_KINDS[axis.kind].changes_lora and not added:
            raise GridError(
                f"axis {axis.slot}: {axis.title} has nothing to change; name a LoRA among the rows, or as "
                "<lora:NAME:1> in the prompt",
                axis=axis.slot,
            )
        if axis.kind == "prompt" and len(prompts) > 1:
            raise GridError(
                f"several prompts are given beside the axis {axis.slot} of prompts; give them once", axis=axis.slot
            )


def _with_base(axes: Sequence[Axis], prompts: Sequence[str]) -> list[Axis]:
    """Put the base alone in front of one axis: weights if there are any, else rows, their blocks, or tags in prompts.

    Where tags stand in a prompt that no axis changes, a further axis shows the pictures with and without them.
    """
    joined = list(axes)
    place = _plainest(joined, prompts)
    if place is None and any(has_tag(prompt) for prompt in prompts):
        slotted = [axis.slot for axis in joined if axis.slot]
        place = len(slotted)
        joined.insert(place, Axis("weight", (1.0,), slot=next(slot for slot in _SLOTS if slot not in slotted)))
    if place is None:
        return joined
    axis = joined[place]
    if axis.kind == "weight" and not axis.term:
        weights = with_base_first(value for value in axis.values if isinstance(value, (int, float)))
        joined[place] = replace(axis, values=weights)
    elif None not in axis.values:
        joined[place] = replace(axis, values=(None, *axis.values))
    return joined


def _plainest(axes: Sequence[Axis], prompts: Sequence[str]) -> int | None:
    """The index of the axis that the base is put in front of; None where no axis adds anything to the base."""
    for kind in _ADDING:
        for place, axis in enumerate(axes):
            text = kind in ("s/r", "prompt")
            if axis.kind == kind and axis.slot and not axis.term and (not text or _adds(axis, prompts)):
                return place
    return next((place for place, axis in enumerate(axes) if AXIS_KINDS[axis.kind].changes_lora), None)


def _adds(axis: Axis, prompts: Sequence[str]) -> bool:
    """Whether an axis of texts brings LoRAs into prompts, or changes the tag of one."""
    if any(has_tag(str(value)) for value in axis.values):
        return True
    return axis.kind == "s/r" and any(axis.search in tag for text in prompts for tag in take_tags(text)[1])
