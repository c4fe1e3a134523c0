"""What a grid step will show, told before anything that it shows is made: its rows by label, and what is wrong with it.

The very arrangement that a run makes is made of rows that have a label and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from loratools.errors import GridError, LoratoolsError, did_you_mean
from loratools.preview.request.read_axes import NameLookup
from loratools.preview.request.read_rows import row_labels
from loratools.recipe.plan.lora_refs import Terms, why_no_epoch
from loratools.recipe.plan.planner import Planner, StepRequest
from loratools.recipe.steps.pictures.grid_options import Grid

if TYPE_CHECKING:
    from loratools.ops.merging.merge_string import TermSpec
    from loratools.preview.request.arrange import Arrangement
    from loratools.preview.request.axes import Axis
    from loratools.preview.request.rows import GridRow

_AXIS = re.compile(r"axis ([xyz])\b")


@dataclass(frozen=True)
class PlannedNames(NameLookup):
    """NameLookup of what need not be there yet.

    Args:
        planner: knows the steps that will make it.
    """

    planner: Planner = field(kw_only=True)

    def rows(self, texts: Sequence[str]) -> list[GridRow]:
        """Rows of labels alone.

        Raises:
            GridError: for an epoch that a run will not have.
        """
        from loratools.ops.merging.merge_string import parse_merge_string
        from loratools.preview.request.rows import GridRow

        for spec in (spec for text in texts for spec in parse_merge_string(text)):
            if (told := why_no_epoch(spec, self.lookup(spec.ref), self.planner)) is not None:
                raise GridError(told)
        return [GridRow(label, {}) for label in row_labels(texts, self.lookup, self.numbers)]

    def is_run(self, ref: str) -> bool:
        """Whether ``ref`` is or will be a training run."""
        return self.numbers(ref) is not None

    def numbers(self, ref: str) -> tuple[int, ...] | None:
        """The epochs that a run has or will have; None for what is no run."""
        from loratools.adapter.files.epoch_files import epochs, is_run

        if ref in self.planner.recipe.steps:
            planned = self.planner.step(ref)
            return planned.draft.numbers if planned.step_kind.makes == "run" else None
        place = self.lookup(ref)
        return tuple(epoch.number for epoch in epochs(place)) if not place.is_file() and is_run(place) else None


def check_grid(request: StepRequest, settings: Grid, arrangement: Arrangement, rows: Sequence[Terms]) -> None:
    """Raise RecipeError for what a run of the grid step ``name`` would find wrong once its rows are there.

    Args:
        rows: every merge string that the grid names.
    """
    try:
        for _, setting in arrangement.places():
            if "<lora:" in setting.negative.lower():
                raise GridError(f"the negative prompt names a LoRA: '{setting.negative}'; only the prompt may")
        for axis in arrangement.axes:
            _check_axis(axis, rows, settings, request)
    except LoratoolsError as error:
        raise request.error(*place_of(str(error), settings), message=str(error)) from error
    _check_labels(request, settings, arrangement)


def place_of(message: str, settings: Grid) -> tuple[str, ...]:
    """The option that a message of an axis is about."""
    found = _AXIS.match(message)
    if found is not None:
        return (found[1],)
    return ("most",) if "are allowed" in message and settings.most is not None else ()


def told_rows(arrangement: Arrangement) -> list[str] | None:
    """The labels of the rows that a grid will have; None where more than rows and weights change what is added, or
    only a run's log will know which epoch is best."""
    from loratools.preview.request.axes import KINDS
    from loratools.preview.request.prompt_loras import has_tag
    from loratools.preview.request.rows import GridRow

    changed = any(
        KINDS[axis.kind].adapts and (axis.term or axis.kind not in ("adapter", "weight")) for axis in arrangement.axes
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


def _check_axis(axis: Axis, rows: Sequence[Terms], settings: Grid, request: StepRequest) -> None:
    """Raise LoratoolsError for a LoRA, a block or a vector that no row has."""
    from loratools.blocks.groups import expand
    from loratools.blocks.parse import parse_vector
    from loratools.blocks.scheme import full_scheme

    families = [terms.family or request.paths.base_family for terms in rows]
    family = next((family for family in families if family), None)
    specs = [spec for terms in rows for spec in terms.specs]
    try:
        if axis.term and not any(_meant(spec, axis.term) for spec in specs):
            names = list(dict.fromkeys(spec.ref for spec in specs))
            raise GridError(
                f"no row has a LoRA called '{axis.term}'{did_you_mean(axis.term, names)}; there are {', '.join(names)}"
            )
        if axis.block and family is not None and (scheme := full_scheme(family)).names:
            expand(axis.block, scheme)
        if axis.kind == "vector":
            presets = request.presets(settings.presets)
            for value in axis.values:
                if value is not None:
                    parse_vector(str(value), presets, family)
    except LoratoolsError as error:
        raise GridError(f"axis {axis.slot}, {axis.title}: {error}") from error


def _meant(spec: TermSpec, name: str) -> bool:
    """Whether a term goes by ``name``: its own, its file's, or with its epoch."""
    path = Path(spec.ref)
    return name in (spec.ref, path.name, path.stem, f"{spec.ref}@{spec.epoch}", f"{path.name}@{spec.epoch}")


def _check_labels(request: StepRequest, settings: Grid, arrangement: Arrangement) -> None:
    """Raise RecipeError for a label of a value that no axis has."""
    known = [axis.label(n) for axis in arrangement.axes for n in range(len(axis.values))]
    if any(label.endswith("@best") for label in known):
        return
    for value in settings.labels:
        if value not in known:
            message = (
                f"no axis has a value '{value}'{did_you_mean(value, known)}; values are "
                f"{', '.join(dict.fromkeys(known[:20]))}"
            )
            raise request.error("labels", value, message=message)
