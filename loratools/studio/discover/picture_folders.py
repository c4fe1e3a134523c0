"""Folders of pictures that a training could learn from: how many pictures, and how many have a caption beside them.

What loratools drew itself is left out: grids, samples, verdicts and searches keep their pictures in folders that say
so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from loratools.dataset.folder import IMAGE_EXTENSIONS

_CAPTIONS = (".txt", ".caption")
_NUMBERED = re.compile(r"\d+_.*", re.DOTALL)  # 10_name: its repeats and its words; read where its parent is named
_DRAWN = ("grid.json", "tune.json")  # files of a folder whose pictures, and those below it, loratools drew
_DRAWN_NAMES = ("-samples", "-verdict", "-state")


@dataclass(frozen=True)
class PictureCount:
    """What lies in one folder.

    Attributes:
        drawn: whether loratools drew it.
    """

    pictures: int
    captions: int
    drawn: bool = False


@dataclass(frozen=True)
class FoundPictures:
    """A folder that a training can be given; ``path`` holds the pictures, or ``10_name`` folders with them."""

    path: Path
    pictures: int
    captions: int


def count(folder: Path, names: Sequence[str]) -> PictureCount | None:
    """What a folder's files are; None where nothing is to be kept of it."""
    drawn = folder.name.endswith(_DRAWN_NAMES) or not set(names).isdisjoint(_DRAWN)
    if drawn:
        return PictureCount(0, 0, drawn=True)
    parts = [name.rpartition(".") for name in names]  # of every file, again and again: no paths are made
    pictures = [stem for stem, dot, suffix in parts if dot + suffix.lower() in IMAGE_EXTENSIONS]
    if not pictures:
        return None
    captions = {stem for stem, dot, suffix in parts if dot + suffix.lower() in _CAPTIONS}
    return PictureCount(len(pictures), sum(stem in captions for stem in pictures))


def picture_folders(counts: Mapping[Path, PictureCount], roots: Sequence[Path]) -> list[FoundPictures]:
    """The folders to choose from, in the order of their paths; of ``10_name`` folders the one that they are in."""
    found: dict[Path, FoundPictures] = {}
    for folder, own in sorted(counts.items()):
        if own.drawn or any(counts[above].drawn for above in folder.parents if above in counts):
            continue
        place = folder.parent if _NUMBERED.fullmatch(folder.name) and folder not in roots else folder
        known = found.get(place, FoundPictures(place, 0, 0))
        found[place] = FoundPictures(place, known.pictures + own.pictures, known.captions + own.captions)
    return list(found.values())
