"""Which axes a grid has, in which order, and where the base stands: from what was asked for to every place."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from loratools.blocks.tag import find_tags
from loratools.errors import GridError
from loratools.preview.axes import KINDS, Axis
from loratools.preview.cells import with_base_first
from loratools.preview.rows import Row
from loratools.preview.setting import Setting, applied

MOST = 5000  # pictures in one grid, unless more are asked for
_SLOTS = ("x", "y", "z")


@dataclass(frozen=True)
class Arrangement:
    """The axes of a grid: across, down, then further ones; ``start`` is what no axis changes."""

    axes: tuple[Axis, ...]
    start: Setting

    @property
    def count(self) -> int:
        """Places, of which some may show the same picture."""
        return math.prod(len(axis.values) for axis in self.axes)

    def places(self) -> Iterator[tuple[tuple[int, ...], Setting]]:
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
    start: Setting,
    *,
    rows: Sequence[Row] = (),
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
        raise GridError("two axes stand at the same place; give --x, --y and --z once each")
    _check(asked, start, rows, prompts)
    kinds = {axis.kind for axis in asked}
    if weights is not None and "weight" not in {axis.kind for axis in asked if not axis.term}:
        _fill(axes, Axis("weight", tuple(weights)), ("x", "y", "z"))
    only = rows[0] if len(rows) == 1 else None
    if len(rows) > 1 or (rows and not (kinds | ({"weight"} if weights is not None else set())) & _adapting()):
        _fill(axes, Axis("adapter", tuple(rows)), ("y", "x", "z"))
    ordered = [axes[slot] for slot in sorted(axes)]
    if len(ordered) < 2 and only is not None and "adapter" not in kinds:
        ordered = [*ordered, Axis("adapter", (only,))]
    ordered += [Axis("prompt", tuple(dict.fromkeys(prompts)))] if "prompt" not in kinds else []
    ordered += [Axis("seed", tuple(dict.fromkeys(seeds)))] if "seed" not in kinds else []
    start = replace(start, row=only)
    found = Arrangement(tuple(_with_base(ordered, start, prompts) if base else ordered), start)
    if found.count > most:
        sizes = " x ".join(f"{len(axis.values)} {axis.title}" for axis in found.axes if len(axis.values) > 1)
        raise GridError(f"the axes ask for {sizes} = {found.count} pictures, and {most} are allowed; ask for fewer, or "
                        f"allow them with --most {found.count}")  # fmt: skip
    return found


def _adapting() -> set[str]:
    return {name for name, kind in KINDS.items() if kind.adapts}


def _fill(axes: dict[str, Axis], axis: Axis, order: Sequence[str]) -> None:
    """Put ``axis`` at the first of ``order`` that is free."""
    free = next((slot for slot in order if slot not in axes), None)
    if free is None:
        what = "several rows" if axis.kind == "adapter" else "--weights"
        raise GridError(f"--x, --y and --z are all taken, and {what} need a place of their own; drop one of them")
    axes[free] = replace(axis, slot=free)


def _check(asked: Sequence[Axis], start: Setting, rows: Sequence[Row], prompts: Sequence[str]) -> None:
    seen: dict[tuple[str, str, str], str] = {}
    for axis in asked:
        own = (axis.kind, axis.term, axis.block)
        if own in seen and axis.kind != "s/r":
            raise GridError(f"--{seen[own]} and --{axis.slot} both change the {axis.title}; give it once")
        seen[own] = axis.slot
        if axis.kind == "adapter" and rows:
            raise GridError(f"ROWS and --{axis.slot} adapter both name what is added; give it once")
        nothing = not rows and not any(find_tags(prompt) for prompt in prompts)
        if KINDS[axis.kind].adapts and nothing and not any(other.kind == "adapter" for other in asked):
            raise GridError(f"--{axis.slot} {axis.title} has nothing to change; name a LoRA among ROWS, or as "
                            "<lora:NAME:1> in the prompt")  # fmt: skip
        if axis.kind == "prompt" and len(prompts) > 1:
            raise GridError(f"--prompt and --{axis.slot} prompt both give several prompts; give them once")


def _with_base(axes: Sequence[Axis], start: Setting, prompts: Sequence[str]) -> list[Axis]:
    """The base in front of the axis that adds to it most plainly: weights, rows, their blocks, then tags in prompts."""
    found = list(axes)
    order = ["weight", "adapter", "vector", "block", "te", "unet", "s/r", "prompt"]
    tagged = any(find_tags(str(text)) for axis in axes if axis.kind in ("s/r", "prompt") for text in axis.values)
    tagged = tagged or any(find_tags(prompt) for prompt in prompts)
    usable = [n for n, axis in enumerate(found) if axis.kind in order[:6] and (axis.kind != "weight" or not axis.term)]
    usable = usable or [n for n, axis in enumerate(found) if KINDS[axis.kind].adapts]
    if not usable and tagged:
        usable = [n for n, axis in enumerate(found) if axis.slot and axis.kind in order[6:]]
        if not usable:
            found.insert(min(2, len([axis for axis in found if axis.slot])), Axis("weight", (1.0,)))
            usable = [n for n, axis in enumerate(found) if axis.kind == "weight"]
    if not usable:
        return found
    place = min(usable, key=lambda n: order.index(found[n].kind))
    axis = found[place]
    if axis.kind == "weight" and not axis.term:
        values: tuple[object, ...] = with_base_first(value for value in axis.values if isinstance(value, (int, float)))
        found[place] = replace(axis, values=values)  # type: ignore[arg-type]
    elif None not in axis.values:
        found[place] = replace(axis, values=(None, *axis.values))
    return found
