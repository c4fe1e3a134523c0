"""The LoRAs that a grid step names: rows, values of an axis of adapters, and tags in prompts."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Set
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from loratools.errors import GridError, LoratoolsError
from loratools.recipe.plan.lora_refs import Terms, find_on_disk, read_terms
from loratools.recipe.plan.planner import StepRequest
from loratools.recipe.steps.pictures.grid_axes import GridAxes
from loratools.recipe.steps.pictures.grid_options import Grid
from loratools.yamlio import Place

if TYPE_CHECKING:
    from loratools.blocks.vector import Presets
    from loratools.preview.request.axes import Axis


def named_loras(
    step: StepRequest, settings: Grid, axes: GridAxes, presets: Presets
) -> tuple[tuple[str, Place, Terms], ...]:
    """Every merge string with its place and its terms.

    Raises:
        RecipeError: at the option, for what cannot be read or is not there.
    """

    def read(texts: Iterable[tuple[str, Place]]) -> list[tuple[str, Place, Terms]]:
        return [(text, place, read_terms(text, step, presets, *place)) for text, place in texts]

    written = read(_written(step, settings, axes, presets))
    known = {ref for _, _, terms in written for ref in terms.paths}
    return (*written, *read(_replacing(step, axes, known, presets)))


def with_places(axes: GridAxes, step: StepRequest, settings: Grid, presets: Presets) -> GridAxes:
    """``axes`` without the first values of Prompt S/R that only mark a place; see
    :mod:`loratools.preview.request.placeholders`.

    Raises:
        RecipeError: at the axis, for a place-holder that no value follows.
    """
    from loratools.preview.request.placeholders import without_placeholders

    def is_readable(tag: str) -> bool:
        try:
            read_terms(_tag_text(tag, step, (), presets), step, presets)
        except LoratoolsError:
            return False
        return True

    try:
        return replace(
            axes, axes=tuple(without_placeholders(axes.axes, [*axes.prompts, settings.negative], is_readable))
        )
    except GridError as error:
        raise step.error(error.axis, message=str(error)) from error


def with_runs(axes: GridAxes, step: StepRequest) -> GridAxes:
    """``axes`` with each folder of several training runs, on an axis of adapters, as those runs."""

    def values(axis: Axis) -> Axis:
        texts = (text for value in axis.values for text in _by_run(str(value), step))
        return replace(axis, values=tuple(texts)) if axis.kind == "adapter" else axis

    return replace(axes, axes=tuple(map(values, axes.axes)))


def _by_run(text: str, step: StepRequest) -> list[str]:
    """A row as one for each run, where it is the name of a folder that holds several; any other as it is."""
    from loratools.preview.request.read_rows import one_row_a_run
    from loratools.preview.request.row_text import RowText

    def find(ref: str) -> Path:
        return step.planner.out(ref) if ref in step.planner.recipe.steps else find_on_disk(ref, step)

    with contextlib.suppress(LoratoolsError):  # read_terms says what is wrong, and where
        return [row.text for row in one_row_a_run(RowText.parse(text), find)]
    return [text]


def _written(step: StepRequest, settings: Grid, axes: GridAxes, presets: Presets) -> Iterator[tuple[str, Place]]:
    """Every merge string and where it stands: rows, values of an axis of adapters, tags in prompts."""
    from loratools.blocks.webui_tag import take_tags
    from loratools.preview.request.placeholders import has_placeholder

    for n, row in enumerate(settings.rows):
        yield from ((text, ("rows", n)) for text in _by_run(row, step))
    for axis in axes.axes:
        if axis.kind == "adapter":
            yield from ((str(value), (axis.slot,)) for value in axis.values)
    texts: list[tuple[str, Place]] = [(text, ("prompts",)) for text in axes.prompts]
    for axis in axes.axes:
        if axis.kind in ("prompt", "s/r"):
            texts += [(str(value), (axis.slot,)) for value in axis.values]
    tags = [
        (tag, place)
        for text, place in texts
        for tag in take_tags(text)[1]
        if not has_placeholder(tag, axes.axes)  # what stands there in the end: see _replaced()
    ]
    yield from ((_tag_text(tag, step, place, presets), place) for tag, place in tags)


def _replacing(step: StepRequest, axes: GridAxes, known: Set[str], presets: Presets) -> Iterator[tuple[str, Place]]:
    """Tags with LoRAs beside the ``known`` ones, which prompts name only once Prompt S/R has replaced a text."""
    from loratools.blocks.webui_tag import take_tags
    from loratools.ops.merging.merge_string import parse_merge_string

    seen, checked = set(known), set[str]()
    for prompt, place in _replaced(axes):
        for tag in take_tags(prompt)[1]:
            text = _tag_text(tag, step, place, presets)
            refs = {spec.ref for spec in parse_merge_string(text)}
            if not refs <= seen:
                seen |= refs
                yield text, place
            elif text not in checked:  # an epoch of a run, or a vector, that no other tag has
                checked.add(text)
                read_terms(text, step, presets, *place)


def _tag_text(tag: str, step: StepRequest, place: Place, presets: Presets) -> str:
    from loratools.preview.request.prompt_loras import merge_string

    try:
        return merge_string([tag], presets)
    except LoratoolsError as error:
        raise step.error(*place, message=str(error)) from error


def _replaced(axes: GridAxes) -> Iterator[tuple[str, Place]]:
    """Every prompt once the texts of Prompt S/R are replaced, and the first axis that replaces some."""
    from loratools.preview.request.setting import CellSetting, applied

    texts = [axis for axis in axes.axes if axis.kind in ("prompt", "s/r")]
    slot = next((axis.slot for axis in texts if axis.kind == "s/r"), None)
    if slot is None:
        return
    for prompt in axes.prompts or [""]:
        for at in itertools.product(*(range(len(axis.values)) for axis in texts)):
            with contextlib.suppress(GridError):  # a text that only the negative prompt has, or none: see arrange()
                yield applied(CellSetting(prompt, 0), texts, at).prompt, (slot,)
