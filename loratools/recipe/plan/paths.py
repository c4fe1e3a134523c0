"""Where the files lie that a recipe names: beside it or in the current folder; its base, its VAE, its presets."""

from __future__ import annotations

import contextlib
import hashlib
from functools import cached_property
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from loratools.errors import FileError, LoratoolsError
from loratools.files import find_beside, sha256
from loratools.recipe.plan.step import StepInput
from loratools.recipe.schema.recipe import Recipe
from loratools.yamlio import Document, Place

if TYPE_CHECKING:
    from loratools.blocks.vector import Presets


_RECORD = (".dataset", "tags.jsonl")
_SIDECAR = "_meta.json"  # of ``.NAME_meta.json``


class RecipePaths:
    """What a recipe's names of files, base, VAE and presets mean on this machine.

    Args:
        recipe: the checked recipe, and ``document`` where it came from.
        folder: where relative paths are looked for first; then the folders of the files that it includes, and then
            the current folder.
        base: instead of the recipe's own.
    """

    def __init__(self, recipe: Recipe, document: Document, folder: Path, base: str | None = None) -> None:
        self.recipe = recipe
        self.document = document
        self.folder = folder
        self.folders = tuple(dict.fromkeys([folder, *(Path(source).parent for source in document.others)]))
        self.base = self._base_name(base or recipe.base, given=base is not None)
        self.rebased = base is not None

    def find(self, text: str) -> Path | None:
        """The existing file or folder that ``text`` names: beside the recipe first, then beside what it includes, then
        in the current folder."""
        return find_beside(text, self.folders)

    def base_input(self) -> StepInput:
        """The base as something that a step reads."""
        from loratools.adapter.files.checkpoint import open_checkpoint
        from loratools.base.base_path import base_digest

        try:
            if Path(self.base).is_file() and Path(self.base).suffix == ".safetensors":
                open_checkpoint(self.base)  # a LoRA is no base
            return StepInput(self.base, Path(self.base), base_digest(self.base))
        except LoratoolsError as error:
            if self.rebased:
                raise
            raise self.document.error(("base",), str(error)) from error

    def base_path(self) -> Path:
        """Where the base lies on disk; ``pocket`` is the one that ships."""
        from loratools.base.base_path import base_path

        return base_path(self.base)

    @cached_property
    def base_family(self) -> str | None:
        """The base's model family, or None where its files are not here to be read (a hub id) or are of none."""
        with contextlib.suppress(LoratoolsError):
            return model_family(self.base_path())
        return None

    @cached_property
    def vae(self) -> StepInput | None:
        """The VAE that pictures are decoded with instead of the base's own, as something that a step reads."""
        if self.recipe.vae is None:
            return None
        try:
            return self.vae_input(self.recipe.vae)
        except LoratoolsError as error:
            raise self.document.error(("vae",), str(error)) from error

    def vae_input(self, text: str, *, offline: bool = False) -> StepInput:
        """The VAE ``text`` by its content: a folder or file as :meth:`find` finds it, or a hub id, fetched if need be.

        Raises:
            BaseModelError: if it is none of them.
        """
        from loratools.base.vae_path import find_vae, vae_digest

        mistyped = [
            folder / text for folder in self.folders if Path(text).parent != Path() and (folder / text).parent.is_dir()
        ]
        place = find_vae(self.find(text) or next(iter(mistyped), text), offline=offline)
        return StepInput(text, place, vae_digest(place))

    @cached_property
    def lora_dirs(self) -> tuple[Path, ...]:
        """Folders in which LoRA names are looked for."""
        folders = []
        for text in self.recipe.lora_dirs:
            path = self.find(text)
            if path is None:
                raise self.document.error(("lora_dirs",), f"no folder '{text}' in {self.searched()}")
            folders.append(path)
        return (*folders, *self.folders)

    def presets(self, file: str | None = None, place: Place = ("blocks",)) -> Presets:
        """Named block vectors: the built-in ones, under those of the presets ``file``, under the recipe's ``blocks``.

        Args:
            place: where the recipe names ``file``.
        Raises:
            RecipeError: if the file, or one of the recipe's ``blocks``, cannot be read.
        """
        from loratools.blocks.presets import load_presets

        path = None if file is None else self.find(file) or Path(file)
        try:
            return load_presets(path, self.recipe.blocks)
        except LoratoolsError as error:
            raise self.document.error(place if file is not None else ("blocks",), str(error)) from error

    def searched(self) -> str:
        """The folders that :meth:`find` looks into, for a message."""
        return f"{', '.join(map(str, self.folders))} or the current folder"

    def _base_name(self, text: str, *, given: bool) -> str:
        if text == "pocket":
            return text
        return str(find_beside(text, (Path(), *self.folders) if given else self.folders) or text)


def model_family(path: Path) -> str | None:
    """The family of a model on disk, or None where it is not there yet, or is of none that is known."""
    from loratools.adapter.files.checkpoint import open_checkpoint

    with contextlib.suppress(LoratoolsError):
        return open_checkpoint(path).family
    return None


def _counts(file: PurePath) -> bool:
    """Whether a file of a folder is part of its content."""
    hidden = [part for part in file.parts if part.startswith(".")]
    return (
        not hidden
        or (hidden == [".dataset"] and file.parts[-2:] == _RECORD)
        or (hidden == [file.name] and file.name.endswith(_SIDECAR))
    )


def digest_of(path: Path) -> str:
    """sha256 of a file, or over the names and digests of all the files in a folder.

    Hidden ones, and those in hidden folders, do not count: they are the system's, version control's, or what loratools
    itself keeps there; but for a data set's record and waifuc's sidecars, which say what the pictures' tags are.

    Raises:
        FileError: if one cannot be read.
    """
    try:
        if path.is_file():
            return sha256(path)
        items = sorted(item for item in path.rglob("*") if _counts(item.relative_to(path)) and item.is_file())
        lines = [f"{item.relative_to(path).as_posix()} {sha256(item)}" for item in items]
    except OSError as error:
        raise FileError(f"cannot read {error.filename or path}: {error.strerror or error}") from error
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
