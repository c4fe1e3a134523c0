"""A fix taken back: text by text where nobody edited the recipe since, else number by number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from loratools.blocks.symptoms import ROLES
from loratools.errors import RecipeError
from loratools.files import locked, write_bytes
from loratools.recipe.edit.locate import Located, MergeText, Replacement, applied, locate, merge_text
from loratools.recipe.edit.log import Change, Edit, Source, load_log, real_place, save_log, sidecar
from loratools.recipe.edit.result import Fixed


def undo(recipe: Path, *, dry_run: bool = False) -> Fixed:
    """Take back the last fix.

    Raises:
        RecipeError: if there is none, or none of its numbers is still what it wrote.
    """
    recipe = real_place(recipe)
    with locked(sidecar(recipe)):
        source = Source.read(recipe)
        log = load_log(recipe, source.digest)
        if not log:
            raise RecipeError(f"{recipe} has no fix to undo; `loratools blocks fix {recipe} --symptom hands` makes one")
        outcome = _taken_back(source, log[-1])
        if dry_run:
            return outcome
        write_bytes(recipe, source.encoded(outcome.text))
        save_log(recipe, log[:-1])
    return replace(outcome, written=True)


def _taken_back(source: Source, edit: Edit) -> Fixed:
    if source.digest == edit.after:
        text = source.text
        for one in reversed(edit.passes):
            text, _ = applied(text, one)
        return _undone(source, edit, edit.changes, (), text)
    return _by_number(source, edit)


def _by_number(source: Source, edit: Edit) -> Fixed:
    """The recipe was edited by hand since: only numbers that are still what the fix wrote go back."""
    recipe, document = source.parsed(source.text)
    merged = merge_text(document, recipe, edit.merge)
    found = {role: locate(document, recipe, merged, term) for role, term in merged.of_roles(_used(edit)).items()}
    back, done, left = list[Replacement](), list[Change](), list[Change]()
    for change in edit.changes:
        place = _place(change, found, merged)
        if place is not None and source.text[slice(*place)] == change.after:
            back.append(Replacement(*place, change.before))
            done.append(change)
        else:
            left.append(change)
    if not done:
        raise RecipeError(
            f"{source.path} was edited by hand since the last fix, and none of its numbers is still what "
            f"the fix wrote; delete {sidecar(source.path).name} to forget the fixes"
        )
    text, _ = applied(source.text, back)
    names = ", ".join(f"{change.vector} {change.block}" for change in left)
    notes = ("the recipe was edited by hand since, so only numbers that the fix wrote went back",)
    return _undone(source, edit, done, (*notes, *([f"left as they are: {names}"] if left else [])), text)


def _used(edit: Edit) -> list[str]:
    return [role for role in ROLES if any(change.role == role for change in edit.changes)]


def _place(change: Change, found: dict[str, Located], merged: MergeText) -> tuple[int, int] | None:
    if change.role == "strength":
        return merged.weights.get(int(change.block) - 1)
    return found[change.role].places.get(change.block) if change.role in found else None


def _undone(source: Source, edit: Edit, changes: Sequence[Change], notes: Sequence[str], text: str) -> Fixed:
    reverse = tuple(replace(change, before=change.after, after=change.before) for change in changes)
    made = tuple(replace(one, say=f"undone: {one.say}") for one in edit.made)
    return Fixed(source.path, made, reverse, (), tuple(notes), source.text, text)
