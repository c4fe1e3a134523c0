"""The types of this room: how a folder of pictures is to be read, and what was there."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from loratools.dataset.captions import CaptionRules

CAPTION_EXTENSIONS = (".txt", ".caption")  # of taggers and captioners; a folder's own are its ``extensions``
IMAGE_EXTENSIONS = frozenset(
    {
        *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".avif", ".gif", ".tif", ".tiff"),
        *(".bmp", ".dib", ".jp2", ".tga", ".qoi", ".ppm", ".pgm"),
    }
)
Size = tuple[int, int]  # (width, height) in pixels
_NUMBERED = re.compile(r"(\d+)_(.*)", re.DOTALL)
_NUMBER_FIRST = re.compile(r"x?(\d{1,3})x?[\s_.-]+(\S.*)", re.DOTALL | re.IGNORECASE)  # 10 ink, 10-ink, 10x ink
_NUMBER_LAST = re.compile(r"(.*[^\s_.-])[\s_.-]+x?(\d{1,3})x?", re.DOTALL | re.IGNORECASE)  # ink_10, ink x10
_OF_THE_SYSTEM = frozenset({"thumbs.db", "desktop.ini", "__macosx", "icon\r"})  # files and folders, in lower case


class NumberedName(NamedTuple):
    """What the name of a folder such as ``10_ink`` says: how often an epoch shows each picture, and of what."""

    repeats: int
    word: str


@dataclass(frozen=True, kw_only=True)
class FolderOptions:
    """How a folder is to be read: its own pictures, where it holds some, and those of its ``10_name`` folders.

    Attributes:
        path: the folder; or ``metadata_file`` itself, if the pictures are those that it lists, wherever they lie.
        repeats: uses of each picture an epoch; None: what the folder's name says, else ``default_repeats``.
        plain_name: the folder's name says nothing, and no folder in it is read.
        class_tokens: stand in for the caption of a picture that has none.
        extensions: of caption files, the first that is there being read.
        encoding: of captions that are not Unicode; ``auto`` finds it where it is sure.
        metadata_file: captions by picture (see :mod:`.caption_metadata`).
        regularisation: pictures of the class, which are never held out.
        alpha_mask, mask_folder: what weighs the loss of a picture's parts; a folder of pictures of the same names.
        split: share of the pictures that is held out to judge by, 0 to 1.
    """

    path: Path
    repeats: int | None = None
    default_repeats: int = 1
    plain_name: bool = False
    rules: CaptionRules = field(default_factory=CaptionRules)
    class_tokens: str | None = None
    extensions: tuple[str, ...] = CAPTION_EXTENSIONS
    encoding: str = "auto"
    metadata_file: Path | None = None
    regularisation: bool = False
    alpha_mask: bool = False
    mask_folder: Path | None = None
    split: float = 0.0

    @property
    def lists_images(self) -> bool:
        """Whether the pictures are those that the metadata file names."""
        return self.path == self.metadata_file


@dataclass(frozen=True, kw_only=True)
class Folder:
    """One folder whose pictures are read, after its name and its options have been put together.

    Attributes:
        options: those that it was found by.
        request: their index among all that were asked for.
        count: of its pictures that are not held out.
    """

    path: Path
    repeats: int
    options: FolderOptions
    request: int = 0
    class_tokens: str | None = None
    count: int = 0

    @property
    def rules(self) -> CaptionRules:
        """How its captions vary from use to use."""
        return self.options.rules

    @property
    def regularisation(self) -> bool:
        """Whether its pictures are of the class alone."""
        return self.options.regularisation


@dataclass(frozen=True, kw_only=True)
class Item:
    """One picture.

    Attributes:
        caption: as it is written.
        folder: index into the folders of the scan.
        size: as it is seen, after EXIF rotation.
        digest: sha256 of the file.
        mask: a picture of the same size, whose dark parts are not learnt.
        held_out: to be judged by and never trained on.
    """

    path: Path
    caption: str
    folder: int
    size: Size
    digest: str
    mask: Path | None = None
    held_out: bool = False


def folder_repeats(path: Path) -> NumberedName | None:
    """What a folder's name says if it is such as ``10_ink``: the name as given, or else of what a link leads to."""
    match = _NUMBERED.fullmatch(path.name) or _NUMBERED.fullmatch(path.resolve().name)
    return NumberedName(int(match[1]), match[2]) if match else None


def suggested_name(name: str) -> str:
    """What a folder that is not read may be called instead: ``10 ink`` and ``ink_10`` keep their 10, others get 1."""
    if match := _NUMBER_FIRST.fullmatch(name):
        return f"{int(match[1])}_{match[2]}"
    if match := _NUMBER_LAST.fullmatch(name):
        return f"{int(match[2])}_{match[1]}"
    return f"1_{name}"


def is_hidden(path: Path | os.DirEntry[str]) -> bool:
    """Whether a file or folder is there for the system or another program, not for a person."""
    return path.name.startswith(".") or path.name.lower() in _OF_THE_SYSTEM


def file_names_in(folder: str | os.PathLike[str]) -> list[str]:
    """The names of the files that lie in a folder itself, sorted; hidden ones do not count.

    Of thousands, names alone are far quicker than paths.
    """
    with os.scandir(folder) as entries:
        return sorted(
            (entry.name for entry in entries if entry.is_file() and not is_hidden(entry)), key=os.path.normcase
        )


def files_in(folder: Path) -> list[Path]:
    """The files of :func:`file_names_in`, with the folder."""
    return [folder / name for name in file_names_in(folder)]


def folders_in(folder: Path) -> list[Path]:
    """The folders that lie directly in a folder, sorted; hidden ones do not count."""
    with os.scandir(folder) as entries:
        return _sorted(Path(entry.path) for entry in entries if entry.is_dir() and not is_hidden(entry))


def _sorted(paths: Iterable[Path]) -> list[Path]:
    """What lies in one folder, in the order of paths; of thousands, by their names alone it is far quicker."""
    return sorted(paths, key=lambda path: os.path.normcase(path.name))


def images_in(folder: Path) -> list[Path]:
    """The pictures that lie in a folder itself, sorted; hidden ones do not count."""
    return [path for path in files_in(folder) if path.suffix.lower() in IMAGE_EXTENSIONS]


def folders_read(root: Path, *, plain_name: bool = False) -> list[Path]:
    """The folders whose pictures are read where ``root`` is named: itself, if it holds some, then its ``10_name`` ones.

    Args:
        plain_name: names say nothing, so that only ``root`` itself is read.
    """
    numbered = [] if plain_name else [path for path in folders_in(root) if _NUMBERED.fullmatch(path.name)]
    return [path for path in (root, *numbered) if images_in(path)]
