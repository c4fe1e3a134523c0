"""Undoing a fix: its text as a whole where nobody edited the recipe since, else number by number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from loratools.blocks.symptoms import ROLES
from loratools.errors import RecipeError
from loratools.files import locked, write_bytes
from loratools.ops.merging.merge_string import Span
from loratools.recipe.edit.locate import Located, MergeText, Replacement, apply, locate, merge_text
from loratools.recipe.edit.log import (
    Change,
    Edit,
    EditResult,
    RecipeFile,
    behind_link,
    load_log,
    save_log,
    sidecar,
)


def undo(recipe: Path, *, dry_run: bool = False) -> EditResult:
    """Undo the last fix.

    Raises:
        RecipeError: if there is none, or none of its numbers is still what it wrote.
    """
    recipe = behind_link(recipe)
    with locked(sidecar(recipe)):
        file = RecipeFile.read(recipe)
        log = load_log(recipe, file.digest)
        if not log:
            raise RecipeError(f"{recipe} has no fix to undo; `loratools blocks fix {recipe} --symptom hands` makes one")
        outcome = _taken_back(file, log[-1])
        if dry_run:
            return outcome
        write_bytes(recipe, file.encoded(outcome.text))
        save_log(recipe, log[:-1])
    return replace(outcome, written=True)


def _taken_back(file: RecipeFile, edit: Edit) -> EditResult:
    if file.digest == edit.after:
        text = file.text
        for one in reversed(edit.passes):
            text, _ = apply(text, one)
        return _undone(file, edit, edit.changes, (), text)
    return _by_number(file, edit)


def _by_number(file: RecipeFile, edit: Edit) -> EditResult:
    """The recipe was edited by hand since: only numbers that are still what the fix wrote go back."""
    recipe, document = file.parsed(file.text)
    merged = merge_text(document, recipe, edit.merge)
    terms = merged.of_roles(_used_roles(edit))
    vectors = {role: locate(document, recipe, merged, term) for role, term in terms.items()}
    back, done, left = list[Replacement](), list[Change](), list[Change]()
    for change in edit.changes:
        span = _span(change, vectors, merged, file.text)
        if span is not None and file.text[slice(*span)] == change.after:
            rule = vectors[change.role].without(change.block) if not change.before else None
            back.append(rule or Replacement(*span, change.before))
            done.append(change)
        else:
            left.append(change)
    if not done:
        raise RecipeError(
            f"{file.path} was edited by hand since the last fix, and none of its numbers is still what "
            f"the fix wrote; delete {sidecar(file.path).name} to forget the fixes"
        )
    text, _ = apply(file.text, back)
    names = ", ".join(f"{change.vector} {change.block}" for change in left)
    notes = ("the recipe was edited by hand since, so only numbers that the fix wrote went back",)
    return _undone(file, edit, done, (*notes, *([f"left as they are: {names}"] if left else [])), text)


def _used_roles(edit: Edit) -> list[str]:
    return [role for role in ROLES if any(change.role == role for change in edit.changes)]


def _span(change: Change, vectors: Mapping[str, Located], merged: MergeText, text: str) -> Span | None:
    """Where the number of ``change`` stands now; None if it is gone."""
    if change.role == "strength":
        index = int(change.block) - 1
        return merged.terms[index].weight if index < len(merged.terms) else None
    located = vectors.get(change.role)
    if located is not None and change.block in located.rules:
        return located.number(change.block, text)
    return None if located is None else located.spans.get(change.block)


def _undone(file: RecipeFile, edit: Edit, changes: Sequence[Change], notes: Sequence[str], text: str) -> EditResult:
    reverse = tuple(replace(change, before=change.after, after=change.before) for change in changes)
    made = tuple(replace(one, say=f"undone: {one.say}") for one in edit.made)
    return EditResult(
        recipe=file.path, made=made, changes=reverse, conflicts=(), notes=tuple(notes), old=file.text, text=text
    )
