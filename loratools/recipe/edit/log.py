"""The log of a recipe's fixes (``.NAME.fixes.json`` beside it), the recipe's file, and what an edit did."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from loratools.errors import FileError, RecipeError
from loratools.files import write_text
from loratools.recipe.edit.locate import Replacement
from loratools.recipe.schema.recipe import Recipe, check_recipe
from loratools.yamlio import Document, load_yaml

_BOM = "\ufeff"


@dataclass(frozen=True)
class Change:
    """One number: in the vector ``role`` (``GP1``, ``GP2``), which the recipe calls ``vector``, or a term's weight
    (role ``strength``, ``block`` the term's place).

    Attributes:
        block: a block, or the left side of a rule for kinds of its layers, ``OUT05/attn1``.
        before, after: as they are written; empty where the rule was not there, or is no longer.
    """

    role: str
    vector: str
    block: str
    before: str
    after: str

    def json(self) -> dict[str, Any]:
        """As JSON values: numbers, null for a rule that is not there."""
        before, after = (float(number) if number else None for number in (self.before, self.after))
        return {**asdict(self), "before": before, "after": after}

    def text(self) -> str:
        """For a person: ``OUT05  0.6 -> 0.5``."""
        return f"{self.block:<6}  {self.before or 'no rule'} -> {self.after or 'no rule'}"


@dataclass(frozen=True)
class AppliedStep:
    """A symptom's part in an edit: the number of its step, from 1, and what the step says."""

    symptom: str
    step: int
    say: str


@dataclass(frozen=True)
class Edit:
    """One fix in the log.

    Attributes:
        merge: the merge step.
        before, after: sha256 of the recipe's bytes.
        passes: what undoes the edit, the last pass first: each is a list of replacements in the text after that pass.
    """

    merge: str
    made: tuple[AppliedStep, ...]
    size: str
    before: str
    after: str
    passes: tuple[tuple[Replacement, ...], ...]
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class RecipeFile:
    """A recipe's file: its path, its text without a byte order mark, and whether it had one (``mark``)."""

    path: Path
    text: str
    mark: bool
    digest: str

    @staticmethod
    def read(path: Path) -> RecipeFile:
        """The file at ``path``.

        Raises:
            RecipeError: if it cannot be read as UTF-8.
        """
        try:
            data = path.read_bytes()
            text = data.decode("utf-8")
        except OSError as error:
            raise RecipeError(f"cannot read {path}: {error.strerror or error}") from error
        except UnicodeDecodeError as error:
            raise RecipeError(f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8") from error
        mark = text.startswith(_BOM)
        return RecipeFile(path, text[mark:], mark, hashlib.sha256(data).hexdigest())

    def encoded(self, text: str) -> bytes:
        """The file's bytes for another text."""
        return (_BOM * self.mark + text).encode("utf-8")

    def digest_of(self, text: str) -> str:
        """sha256 of those bytes."""
        return hashlib.sha256(self.encoded(text)).hexdigest()

    def parsed(self, text: str) -> tuple[Recipe, Document]:
        """``text`` as a recipe."""
        return check_recipe(load_yaml(text, str(self.path)))


def sidecar(recipe: Path) -> Path:
    """Where the log of a recipe's fixes lies."""
    return recipe.with_name(f".{recipe.name}.fixes.json")


def load_log(recipe: Path, digest: str) -> list[Edit]:
    """The edits in the log, oldest first, without one that never reached the recipe (a kill between two writes).

    Raises:
        FileError: if the file cannot be understood.
    """
    path = sidecar(recipe)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        edits = [_edit(item) for item in content["edits"]]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FileError(f"{path} is damaged ({type(error).__name__}); delete it to forget the fixes") from error
    while edits and edits[-1].before == digest != edits[-1].after:
        edits.pop()
    return edits


def _edit(item: dict[str, Any]) -> Edit:
    return Edit(
        merge=item["merge"],
        made=tuple(AppliedStep(**one) for one in item["made"]),
        size=item["size"],
        before=item["before"],
        after=item["after"],
        passes=tuple(tuple(Replacement(**one) for one in part) for part in item["passes"]),
        changes=tuple(Change(**one) for one in item["changes"]),
    )


def save_log(recipe: Path, edits: Sequence[Edit]) -> None:
    """Write ``edits``; without any the file is deleted."""
    path = sidecar(recipe)
    if not edits:
        path.unlink(missing_ok=True)
        return
    content = {"version": 1, "recipe": recipe.name, "edits": [asdict(edit) for edit in edits]}
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def behind_link(recipe: Path) -> Path:
    """Where a link points, so that the file behind it is edited and the link stays one."""
    return recipe.resolve() if recipe.is_symlink() else recipe


@dataclass(frozen=True)
class EditResult:
    """What a fix did (or would do), or what an undo took back.

    Attributes:
        text: the recipe's text afterwards, and ``old`` before.
        notes: overlaps, conflicts and what was left alone, for the person.
    """

    recipe: Path
    made: tuple[AppliedStep, ...]
    changes: tuple[Change, ...]
    conflicts: tuple[str, ...]
    notes: tuple[str, ...]
    old: str
    text: str
    written: bool = False

    def json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "recipe": str(self.recipe),
            "written": self.written,
            "symptoms": [asdict(one) for one in self.made],
            "changes": [one.json() for one in self.changes],
            "conflicts": list(self.conflicts),
            "notes": list(self.notes),
        }

    def lines(self) -> list[str]:
        """For a person: what was tried, every number before and after, and what to know."""
        lines = [f"{one.symptom}, step {one.step}: {one.say}" for one in self.made]
        width = max((len(change.vector) for change in self.changes), default=0)
        lines += [f"  {change.vector:<{width}}  {change.text()}" for change in self.changes]
        return [*lines, *(f"conflict: {text}" for text in self.conflicts), *(f"note: {text}" for text in self.notes)]
