"""``edit_tags``: bulk edits of captions, those of the recipe and those done in the step's own folder since."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field

from loratools.errors import DatasetError, OptionError
from loratools.recipe.plan.context import RunContext, bar
from loratools.recipe.plan.planner import StepRequest
from loratools.recipe.plan.step import Draft, Outcome, StepInput
from loratools.recipe.schema.fields import Strict, listed
from loratools.recipe.schema.kinds import StepKind, UnitCost
from loratools.recipe.steps.dataset.copied import CopiedFolder, done_here
from loratools.recipe.steps.dataset.source import pictures_input, units_of

if TYPE_CHECKING:
    from loratools.dataset.edits.written import WrittenEdit


class EditTags(Strict):
    """Captions edited in bulk. Edits by `dataset edit` in the step's own folder, and captions that were changed there
    by hand, count as part of the step: they stay when it runs again, and the edits are done on new pictures too."""

    images: str = Field(description="a folder of captioned pictures, or the step that makes one")
    edits: Annotated[tuple[dict[str, Any], ...], BeforeValidator(listed)] = Field(
        (), description="in order, such as {remove: signature, where: face focus}; docs/dataset.md lists them"
    )
    log: str | None = Field(None, description="a log of `dataset edit` (.dataset/operations.jsonl), done after `edits`")


KIND = StepKind(
    "edit_tags", EditTags, "pictures", computes=False, made_for="train", guess=UnitCost(seconds=0.001, size=500_000)
)


def draft(request: StepRequest) -> Draft:
    """Read the edits, and what was done in the step's own folder since it ran."""
    from loratools.dataset.edits.log import edits_in
    from loratools.dataset.edits.written import WrittenEdit

    options = request.options(EditTags)
    source = pictures_input(request, options.images, "images")
    tables: dict[int, StepInput] = {}
    edits: list[WrittenEdit] = []
    for index, value in enumerate(options.edits):
        edit = _read(request, value, index)
        if edit.implications is not None:
            tables[index] = request.input(edit.implications, "edits", index, "implications")
        edits.append(edit)
    inputs = [source, *tables.values()]
    try:
        if options.log is not None:
            inputs.append(log := request.input(options.log, "log"))
            edits += map(WrittenEdit, edits_in(log.path))
    except DatasetError as error:
        raise request.error("log", message=str(error)) from error
    here = done_here(request.planner.out(request.name), request.owner)
    resolved = {"edits": [edit.json() for edit in edits], **here.json()}
    step = EditStep(request.owner, source, (*edits, *map(WrittenEdit, here.edits)), tables, here.by_hand)
    return Draft(resolved, tuple(inputs), step.make, in_place=True, units=units_of(request, source))


def _read(request: StepRequest, value: Any, index: int) -> WrittenEdit:
    from loratools.dataset.edits.expression import read_where
    from loratools.dataset.edits.written import read_edit

    try:
        edit = read_edit(value)
        if edit.edit.where.strip():
            read_where(edit.edit.where)
    except OptionError as error:
        raise request.error("edits", index, message=str(error)) from error
    return edit


@dataclass(frozen=True)
class EditStep:
    """Edits that are read, to be done on pictures that are there when the step runs.

    Attributes:
        tables: of implications, by the edit's place in ``edits``.
        by_hand: captions that a person changed in the step's folder, by picture.
    """

    owner: str
    source: StepInput
    edits: tuple[WrittenEdit, ...]
    tables: dict[int, StepInput]
    by_hand: Mapping[str, str]

    def make(self, out: Path, context: RunContext) -> Outcome:
        """Write the pictures with their edited captions into the folder ``out``.

        Raises:
            DatasetError: for a caption that cannot be read.
        """
        from loratools.dataset.edits.edit import CaptionEditor
        from loratools.dataset.tags.store import DatasetFolder

        folder = DatasetFolder.open(self.source.path)
        read = folder.read()
        for sentence in read.unreadable.values():
            raise DatasetError(sentence)
        copy = CopiedFolder(folder, out, self.owner, force=context.force)
        editor, pictures = CaptionEditor(folder), list(read.pictures)
        with bar(context, "editing", len(self.edits) + 1) as advance:
            copied = copy.follow(pictures)
            advance(1)
            for index, each in enumerate(self.edits):
                table = self.tables.get(index)
                edit = each.resolved(pictures, None if table is None else table.path)
                pictures = editor.edited([edit], pictures)
                advance(1)
        copy.write(pictures, self.by_hand)
        before = {picture.file: picture.caption() for picture in read.pictures}
        changed = sum(picture.caption() != before[picture.file] for picture in pictures)
        hand = f", {len(self.by_hand)} by hand" if self.by_hand else ""
        facts = {"pictures": len(pictures), "copied": copied, "changed": changed, "by_hand": len(self.by_hand)}
        said = "".join(f"; {note}" for note in read.read_as)
        return Outcome(f"{len(self.edits)} edits: {changed} of {len(pictures)} captions changed{hand}{said}", facts)
