"""Every picture of a dataset folder, at any depth: the one way in which its commands find them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from loratools.dataset.folder import IMAGE_EXTENSIONS, files_in, folders_in
from loratools.dataset.unused import UNREAD_KINDS
from loratools.errors import DatasetError

UNUSED: Final = "unused"  # where pictures go that are taken out, with the reason
MASKS: Final = "masks"
_NO_PICTURES_OF_THE_SET = frozenset({UNUSED, MASKS})
_DEEPEST = 16


@dataclass(frozen=True)
class Below:
    """What lies below a folder.

    Attributes:
        pictures: sorted by folder and name.
        unread: pictures of kinds that Pillow alone does not read (HEIC, JXL, PSD ...).
        others: all other files, sidecars among them.
        unlisted: folders that could not be opened, with the reason.
    """

    pictures: tuple[Path, ...]
    unread: tuple[Path, ...]
    others: tuple[Path, ...]
    unlisted: tuple[tuple[Path, str], ...] = ()


def files_below(root: Path) -> Below:
    """All files of the dataset folder ``root``; hidden ones and those in ``unused`` and ``masks`` do not count.

    Raises:
        DatasetError: if there is no such folder, or it cannot be opened.
    """
    if not root.is_dir():
        raise DatasetError(f"there is no folder {root}; name a folder of pictures")
    pictures: list[Path] = []
    unread: list[Path] = []
    others: list[Path] = []
    unlisted: list[tuple[Path, str]] = []
    for folder in _folders(root):
        try:
            files = files_in(folder)
        except OSError as error:
            unlisted.append((folder, error.strerror or str(error)))
            continue
        for path in files:
            kind = path.suffix.lower()
            (pictures if kind in IMAGE_EXTENSIONS else unread if kind in UNREAD_KINDS else others).append(path)
    if unlisted and unlisted[0][0] == root:
        raise DatasetError(f"the folder {root} cannot be opened ({unlisted[0][1]}); change its permissions")
    return Below(tuple(pictures), tuple(unread), tuple(others), tuple(unlisted))


def pictures_below(root: Path) -> tuple[Path, ...]:
    """The pictures of :func:`files_below`."""
    return files_below(root).pictures


def _folders(root: Path) -> Iterator[Path]:
    """``root`` and the folders in it, each before those inside it, and none twice, whatever links there are."""
    visited = {root.resolve()}

    def visit(folder: Path, depth: int) -> Iterator[Path]:
        yield folder
        if depth == _DEEPEST:
            return
        try:
            inside = folders_in(folder)
        except OSError:  # said when its files are listed
            return
        for path in inside:
            real = path.resolve()
            if real not in visited and path.name.lower() not in _NO_PICTURES_OF_THE_SET:
                visited.add(real)
                yield from visit(path, depth + 1)

    return visit(root, 0)
