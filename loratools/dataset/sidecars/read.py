"""Every picture of a folder with the tags that its sidecars give it, however these were written."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path

from loratools.dataset.folder import CAPTION_EXTENSIONS
from loratools.dataset.images import read_header
from loratools.dataset.sidecars.beside import Beside
from loratools.dataset.sidecars.lists import read_lists
from loratools.dataset.sidecars.sidecar import Sidecar
from loratools.dataset.tags.picture import Picture
from loratools.dataset.tags.store import DatasetFolder
from loratools.dataset.tags.tag import NOT_TRAINED, Tag, unique
from loratools.dataset.walk import Below, files_below
from loratools.errors import LoratoolsError
from loratools.file_names import composed
from loratools.progress import OnProgress, counted

_PIXIV_PAGE = re.compile(r"(?:^|\D)(\d{5,})_p\d+(?:\D|$)")
_SHOWN = 3
_ALIKE = 0.02  # most that the ratio of a picture differs from its sidecar's


@dataclass(frozen=True)
class FolderTags:
    """What a folder's sidecars say.

    Attributes:
        pictures: all of them, those without sidecars too.
        formats: how many sidecars of each kind were read.
        problems: a sentence for each sidecar that was left out, and why, and for each folder read as no UTF-8.
        unescaped: how many tags lost the backslashes of prompts.
        read_from: the files that each picture's tags are from.
    """

    pictures: tuple[Picture, ...]
    formats: Mapping[str, int] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    unescaped: int = 0
    read_from: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)


def read_folder(
    folder: DatasetFolder,
    keep: Collection[str] = (),
    *,
    again: bool = False,
    below: Below | None = None,
    on_progress: OnProgress | None = None,
) -> FolderTags:
    """Read the sidecars of every picture of a folder; pictures that the folder's record has already keep its word.

    Args:
        keep: categories that stay in captions, of those that are set aside (``artist``, ``meta`` ...).
        again: read the sidecars of recorded pictures too, and forget what the record says of them.
        below: what lies below the folder, where that is known.
    Raises:
        DatasetError: if the folder or its record cannot be read.
    """
    below = below or files_below(folder.folder)
    recorded = frozenset() if again else folder.recorded().keys()
    known = {picture.file: picture for picture in folder.pictures()} if recorded else {}
    listed = read_lists(_lists_among(below), below.pictures, folder.texts)
    beside = Beside(folder.texts)
    formats: Counter[str] = Counter()
    pictures, problems, unescaped = [], list(listed.problems), 0
    read_from: dict[str, tuple[Path, ...]] = {}
    for path in counted(below.pictures, len(below.pictures), on_progress):
        name = folder.file_of(path)
        if name in recorded:
            pictures.append(known[name])
            continue
        sidecars = list(listed.by_picture.get(path, []))
        files: list[Path] = []
        for file, sidecar in beside.read(path):
            wrong = sidecar if isinstance(sidecar, LoratoolsError) else _of_another(path, file, sidecar)
            if isinstance(sidecar, LoratoolsError) or wrong is not None:
                problems.append(str(wrong))
                continue
            sidecars.append(sidecar)
            files.append(file)
        formats.update(sidecar.format for sidecar in sidecars)
        unescaped += sum(sidecar.unescaped for sidecar in sidecars)
        pictures.append(_picture(name, sidecars, keep))
        read_from[name] = tuple(files)
    problems += [*_named_after_none(below), *folder.texts.notes()]
    return FolderTags(tuple(pictures), dict(formats), tuple(problems), unescaped, read_from)


def _picture(file: str, sidecars: Sequence[Sidecar], keep: Collection[str]) -> Picture:
    """One picture by all that is said of it; what knows categories counts before what does not."""
    ordered = sorted(sidecars, key=lambda one: all(tag.category == "general" for tag in one.tags))
    tags = unique(tag for sidecar in ordered for tag in sidecar.tags)
    aside = tuple(tag for tag in tags if tag.category in NOT_TRAINED and tag.category not in keep)
    origin = {name: value for sidecar in reversed(ordered) for name, value in sidecar.origin.items()}
    group = next((sidecar.group for sidecar in ordered if sidecar.group), "") or _pixiv_group(file)
    sentence = next((sidecar.sentence for sidecar in ordered if sidecar.sentence), "")
    return replace(Picture(file, _in_order(tags, aside), aside, sentence), group=group, origin=origin)


def _in_order(tags: Sequence[Tag], aside: Sequence[Tag]) -> tuple[Tag, ...]:
    left_out = set(aside)
    return tuple(tag for tag in tags if tag not in left_out)


def _pixiv_group(file: str) -> str:
    match = _PIXIV_PAGE.search(Path(file).stem)
    return f"pixiv:{match[1]}" if match else ""


def _of_another(path: Path, file: Path, sidecar: Sidecar) -> str | None:
    """Why a sidecar cannot be this picture's: it names another digest, and a picture of another shape."""
    if not sidecar.md5 or sidecar.size is None:
        return None
    try:
        if hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() == sidecar.md5:
            return None
        width, height = read_header(path).size
    except (OSError, LoratoolsError):
        return None  # said where the picture itself is read
    ratio = sidecar.size[0] / sidecar.size[1]
    if abs(width / height / ratio - 1) <= _ALIKE:
        return None  # the same picture at another size, as a sample is
    return (
        f"{file} is of another picture ({sidecar.size[0]}x{sidecar.size[1]}, md5 {sidecar.md5[:8]}), and "
        f"{path.name} is {width}x{height}; it is left out"
    )


def _named_after_none(below: Below) -> Iterator[str]:
    """A sentence for each folder on the captions in it whose pictures are not there, such as those of a picture that
    was renamed."""
    named = {path.parent / composed(name.lower()) for path in below.pictures for name in (path.name, path.stem)}
    for folder, files in groupby(below.others, lambda file: file.parent):
        lost = [
            file.name
            for file in files
            if file.suffix.lower() in CAPTION_EXTENSIONS and folder / composed(file.stem.lower()) not in named
        ]
        if lost:
            shown, more = ", ".join(lost[:_SHOWN]), f" and {len(lost) - _SHOWN} more" if len(lost) > _SHOWN else ""
            are = "is" if len(lost) == 1 else "are"
            yield f"{shown}{more} in {folder} {are} named after no picture there, and not read"


def _lists_among(below: Below) -> list[Path]:
    """The files that may list pictures: JSON that is named after none."""
    named = {path.parent / composed(name) for path in below.pictures for name in (path.name, path.stem)}
    return [file for file in below.others if file.with_name(composed(file.stem)) not in named]
