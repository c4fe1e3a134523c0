"""What a grid step will show, known before anything that it shows is made: its rows by label, and what is wrong."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

from loratools.errors import GridError, LoratoolsError, did_you_mean
from loratools.preview.request.row_text import TermNames, check_edits, names_of_spec
from loratools.recipe.steps.pictures.grid_step import GridStep, PlannedNames, place_of

if TYPE_CHECKING:
    from loratools.preview.request.arrange import Arrangement
    from loratools.preview.request.axes import Axis
    from loratools.preview.request.setting import CellSetting, RowEdit


def check_grid(grid: GridStep) -> None:
    """Raise RecipeError for what a run of the grid step would find wrong once its rows are there."""
    arrangement = grid.planned()
    try:
        for _, setting in arrangement.places():
            if "<lora:" in setting.negative.lower():
                raise GridError(f"the negative prompt names a LoRA: '{setting.negative}'; only the prompt may")
        for axis in arrangement.axes:
            _check_axis(axis, grid)
        _check_edits(arrangement, grid)
    except LoratoolsError as error:
        raise grid.error(*place_of(error, grid.settings), message=str(error)) from error
    _check_labels(grid, arrangement)


def planned_row_labels(arrangement: Arrangement) -> list[str] | None:
    """The labels of the rows that a grid will have; None where more than rows and weights change what is added, or
    only a run's log will know which epoch is best."""
    from loratools.blocks.webui_tag import has_tag
    from loratools.preview.request.axes import AXIS_KINDS
    from loratools.preview.request.rows import GridRow

    changed = any(
        AXIS_KINDS[axis.kind].changes_lora and (axis.term or axis.kind not in ("adapter", "weight"))
        for axis in arrangement.axes
    )
    texts = [
        arrangement.start.prompt,
        *(str(value) for axis in arrangement.axes if axis.kind in ("prompt", "s/r") for value in axis.values),
    ]
    rows = [value for axis in arrangement.axes for value in axis.values if isinstance(value, GridRow)]
    rows = rows or ([arrangement.start.row] if arrangement.start.row is not None else [])
    labels = [row.label for row in rows]
    unknown = changed or any(has_tag(text) for text in texts) or any(label.endswith("@best") for label in labels)
    return None if unknown else labels


def _check_axis(axis: Axis, grid: GridStep) -> None:
    """Raise GridError for a LoRA, a block or a vector that no row has."""
    from loratools.blocks.groups import expand
    from loratools.blocks.parse import parse_vector
    from loratools.blocks.scheme import full_scheme

    families = [terms.family or grid.step.paths.base_family for terms in grid.terms]
    family = next((family for family in families if family), None)
    try:
        if axis.term:
            _check_term(axis.term, grid)
        if axis.block and family is not None and (scheme := full_scheme(family)).names:
            expand(axis.block, scheme)
        if axis.kind == "vector":
            for value in axis.values:
                if value is not None:
                    parse_vector(str(value), grid.presets, family)
    except LoratoolsError as error:
        raise GridError(f"axis {axis.slot}, {axis.title}: {error}", axis=axis.slot) from error


def _check_term(name: str, grid: GridStep) -> None:
    """Raise GridError if no row and no tag of a prompt has a LoRA that goes by ``name``."""
    numbers = grid.planned_names().numbers
    specs = [spec for terms in grid.terms for spec in terms.specs]
    if not any(name in term.names for spec in specs for term in names_of_spec(spec, numbers(spec.ref))):
        refs = list(dict.fromkeys(spec.ref for spec in specs))
        raise GridError(f"no row has a LoRA called '{name}'{did_you_mean(name, refs)}; there are {', '.join(refs)}")


def _check_edits(arrangement: Arrangement, grid: GridStep) -> None:
    """Raise GridError where an axis changes a LoRA that the row beside it, or the tags there, do not have."""
    names = grid.planned_names()
    checked: set[Hashable] = set()
    for _, setting in arrangement.places():
        row, edits = setting.row, setting.edits if setting.weight else ()
        seen = (id(row), "" if row else setting.prompt, tuple((edit.what, edit.term, edit.block) for edit in edits))
        if not edits or seen in checked:
            continue
        checked.add(seen)
        label, terms = (row.label, row.names) if row is not None else _tagged(setting, names)
        for edit in edits:
            try:
                check_edits(label, terms, [(edit.what, edit.term)])
            except GridError as error:
                axis = _axis_of(edit, arrangement)
                raise GridError(f"axis {axis.slot}, {axis.title}: {error}", axis=axis.slot) from error


def _tagged(setting: CellSetting, names: PlannedNames) -> tuple[str, list[TermNames]]:
    """The tags of a prompt that stands beside no row, and the names of their LoRAs."""
    from loratools.blocks.webui_tag import take_tags
    from loratools.ops.merging.merge_string import parse_merge_string
    from loratools.preview.request.prompt_loras import merge_string

    tags = take_tags(setting.prompt)[1]
    if not tags:
        return "base", []
    specs = parse_merge_string(merge_string(tags, names.presets))
    return " ".join(tags), [term for spec in specs for term in names_of_spec(spec, names.numbers(spec.ref))]


def _axis_of(edit: RowEdit, arrangement: Arrangement) -> Axis:
    wanted = (edit.what, edit.term, edit.block)
    return next(axis for axis in arrangement.axes if (axis.kind, axis.term, axis.block) == wanted)


def _check_labels(grid: GridStep, arrangement: Arrangement) -> None:
    """Raise RecipeError for a label of a value that no axis has."""
    known = [axis.label(n) for axis in arrangement.axes for n in range(len(axis.values))]
    if any(label.endswith("@best") for label in known):
        return
    for value in grid.settings.labels:
        if value not in known:
            message = (
                f"no axis has a value '{value}'{did_you_mean(value, known)}; values are "
                f"{', '.join(dict.fromkeys(known[:20]))}"
            )
            raise grid.error("labels", value, message=message)
