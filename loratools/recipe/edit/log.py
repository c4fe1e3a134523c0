"""What is remembered of a recipe's fixes, in ``.NAME.fixes.json`` beside it, and the recipe's file as it is edited."""

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
    (role ``strength``, ``block`` the term's place). ``before`` and ``after`` as they are written."""

    role: str
    vector: str
    block: str
    before: str
    after: str


@dataclass(frozen=True)
class Made:
    """A symptom's part in an edit: its step, from 1, and what the step says."""

    symptom: str
    step: int
    say: str


@dataclass(frozen=True)
class Edit:
    """One fix as it is remembered.

    Attributes:
        before, after: sha256 of the recipe's bytes.
        passes: what takes the text back, last pass first undone: each a list of replacements in the text after it.
    """

    merge: str
    made: tuple[Made, ...]
    size: str
    before: str
    after: str
    passes: tuple[tuple[Replacement, ...], ...]
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class Source:
    """A recipe's file: its path, its text without a byte order mark, and whether it had one."""

    path: Path
    text: str
    mark: bool
    digest: str

    @staticmethod
    def read(path: Path) -> Source:
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
        return Source(path, text[mark:], mark, hashlib.sha256(data).hexdigest())

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
    """Where the fixes of a recipe are remembered."""
    return recipe.with_name(f".{recipe.name}.fixes.json")


def load_log(recipe: Path, digest: str) -> list[Edit]:
    """The remembered edits. One that was noted but never reached the recipe (a kill between two writes) is left out.

    Raises:
        FileError: if the file cannot be understood.
    """
    path = sidecar(recipe)
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        edits = [_edit(item) for item in told["edits"]]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FileError(f"{path} is damaged ({type(error).__name__}); delete it to forget the fixes") from error
    while edits and edits[-1].before == digest != edits[-1].after:
        edits.pop()
    return edits


def _edit(item: dict[str, Any]) -> Edit:
    return Edit(
        item["merge"],
        tuple(Made(**one) for one in item["made"]),
        item["size"],
        item["before"],
        item["after"],
        tuple(tuple(Replacement(**one) for one in part) for part in item["passes"]),
        tuple(Change(**one) for one in item["changes"]),
    )


def save_log(recipe: Path, edits: Sequence[Edit]) -> None:
    """Remember ``edits``; with none the file goes."""
    path = sidecar(recipe)
    if not edits:
        path.unlink(missing_ok=True)
        return
    content = {"version": 1, "recipe": recipe.name, "edits": [asdict(edit) for edit in edits]}
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def real_place(recipe: Path) -> Path:
    """Where a link points, so that the file behind it is edited and the link stays one."""
    return recipe.resolve() if recipe.is_symlink() else recipe
