"""The frame of every edit of a recipe's numbers: under its lock, logged before it is written, and never half."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from loratools.files import locked, write_bytes
from loratools.recipe.edit.locate import MergeText, Replacement, apply
from loratools.recipe.edit.log import (
    AppliedStep,
    Change,
    Edit,
    EditResult,
    RecipeFile,
    behind_link,
    load_log,
    save_log,
    sidecar,
)

Plan = Callable[[RecipeFile, list[Edit]], tuple[Edit, EditResult]]


@dataclass(frozen=True)
class Prepared:
    """A recipe's text in which every vector stands as numbers that can be replaced.

    Attributes:
        passes: what undoes that it was made so.
        merged: the merge step that is edited.
    """

    file: RecipeFile
    text: str
    passes: Sequence[Sequence[Replacement]]
    merged: MergeText

    def edited(
        self, numbers: Sequence[tuple[Change, Replacement]], made: Sequence[AppliedStep], size: str = ""
    ) -> tuple[Edit, str]:
        """The edit that puts ``numbers`` into the text, and the text after it.

        Raises:
            RecipeError: if the text would be no recipe any more, which is a bug and must not reach the file.
        """
        text, back = apply(self.text, [replacement for _, replacement in numbers])
        self.file.parsed(text)
        edit = Edit(
            merge=self.merged.step,
            made=tuple(made),
            size=size,
            before=self.file.digest,
            after=self.file.digest_of(text),
            passes=(*map(tuple, self.passes), tuple(back)),
            changes=tuple(change for change, _ in numbers),
        )
        return edit, text


def apply_edit(recipe: Path, plan: Plan, *, dry_run: bool) -> EditResult:
    """Have ``plan`` say what is to change in ``recipe``, given the file and the edits so far, and write it.

    Args:
        dry_run: write nothing.
    Raises:
        RecipeError: if the recipe cannot be read, and as ``plan``.
    """
    recipe = behind_link(recipe)
    with locked(sidecar(recipe), wait=dry_run):  # which changes nothing, and so may come while another one writes
        file = RecipeFile.read(recipe)
        log = load_log(recipe, file.digest)
        edit, outcome = plan(file, log)
        if dry_run or not edit.changes:
            return outcome
        save_log(recipe, [*log, edit])
        write_bytes(recipe, file.encoded(outcome.text))
    return replace(outcome, written=True)
