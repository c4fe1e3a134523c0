"""The caption of every image, from a metadata file or the text file beside it, and what lies there unread."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from loratools.dataset.caption_metadata import Captions
from loratools.errors import DatasetError
from loratools.train.data.dataset import Folder

EXTENSIONS = (".txt", ".caption")  # of taggers and captioners; which of them are read is a folder's own ``extensions``
_SHOWN = 10


@dataclass(frozen=True)
class Uncaptioned:
    """An image without a caption, or with an empty one.

    Attributes:
        wanted: the file that would be read.
        unread: one that is there but is not read.
    """

    path: Path
    wanted: Path
    unread: Path | None


@dataclass(frozen=True)
class _Found:
    """The text of one image, the file it is from (None: from none), and the files that could have held it."""

    text: str
    source: Path | None
    unread: tuple[Path, ...]


def find_captions(
    folder: Folder, paths: Sequence[Path], listed: Captions, word: str, notes: list[str]
) -> tuple[Folder, list[str], list[Uncaptioned]]:
    """The captions of a folder's images, and those images that have none.

    Args:
        listed: what the folder's metadata file holds.
        word: stands in for all captions where no image has one in any form (sd-scripts' class-and-identifier way);
            the folder then has it as its ``class_tokens``.
        notes: gets one note for each kind of file that is not read, and why.
    Raises:
        DatasetError: for a caption or a metadata file that cannot be read.
    """
    found = [_find(path, folder, listed) for path in paths]
    if (
        folder.class_tokens is None
        and word
        and not listed.by_name
        and not any(one.source or one.unread for one in found)
    ):
        folder = replace(folder, class_tokens=word)
        notes.append(f"{folder.path} has no captions; every image is captioned '{word}', from its name")
    notes += _unread(folder, found)
    missing = [
        Uncaptioned(path, path.with_suffix(folder.extensions[0]), next(iter(one.unread), None))
        for path, one in zip(paths, found, strict=True)
        if not one.text and folder.class_tokens is None
    ]
    return replace(folder, count=len(paths)), [one.text or folder.class_tokens or "" for one in found], missing


def refuse_uncaptioned(missing: Sequence[Uncaptioned]) -> None:
    """Raise DatasetError, with the file that is expected and how to name another, for images without a caption."""
    if not missing:
        return
    shown = ", ".join(str(one.path) for one in missing[:_SHOWN])
    more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
    beside = next((one for one in missing if one.unread), None)
    if beside is not None and beside.unread is not None:
        count = sum(one.unread is not None for one in missing)
        told = (
            f"{count} of them have a {beside.unread.suffix}, such as {beside.unread.name}, which is not read, "
            f"since {beside.wanted.name} is expected; set caption_extension to {beside.unread.suffix}"
        )
    else:
        told = f"write their tags into {missing[0].wanted.name} and so on, or name another caption_extension"
    raise DatasetError(
        f"{len(missing)} images have no caption, or an empty one: {shown}{more}; {told}, set class_tokens for the "
        "folder, or pass --allow-uncaptioned"
    )


def _find(path: Path, folder: Folder, listed: Captions) -> _Found:
    beside = [path.with_suffix(extension) for extension in dict.fromkeys((*folder.extensions, *EXTENSIONS))]
    beside = [file for file in beside if file.is_file()]
    text, source = listed.of(path), folder.metadata_file
    if not text:
        source = next((file for file in beside if file.suffix in folder.extensions), None)
        text = _read(source, folder.rules.wildcards) if source else ""
    return _Found(text, source, tuple(file for file in beside if file != source))


def _unread(folder: Folder, found: Sequence[_Found]) -> Iterator[str]:
    """One note for each extension that is not read and the reason for it."""
    kinds: Mapping[tuple[str, str, str], list[Path]] = defaultdict(list)
    for one in found:
        for file in one.unread:
            kinds[file.suffix, *_reason(one, folder, file.suffix)].append(file)
    for (suffix, reason, remedy), files in kinds.items():
        several = " and so on" if len(files) > 1 else ""
        yield f"not read: {len(files)} {suffix} in {folder.path} ({files[0].name}{several}), {reason}; {remedy}"


def _reason(one: _Found, folder: Folder, suffix: str) -> tuple[str, str]:
    """Why a file of this suffix is not the caption, and how it would be."""
    read_instead = f"set caption_extension to {suffix} to read them"
    if one.source is None:
        return f"since captions are expected in {' or '.join(folder.extensions)}", read_instead
    if one.source == folder.metadata_file:
        return f"since {one.source} has these images' captions", "leave metadata_file out to read them"
    return f"since the {one.source.suffix} of the same name is", read_instead


def _read(path: Path, lines_apart: bool = False) -> str:
    """The caption; several lines (one tag a line, as some taggers write) are joined with commas, or else kept apart."""
    try:
        lines = path.read_bytes().decode("utf-8-sig").splitlines()
    except OSError as error:
        raise DatasetError(f"the caption {path} cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise DatasetError(f"the caption {path} is not UTF-8 (byte {error.start}); save it as UTF-8") from error
    return ("\n" if lines_apart else ", ").join(
        line.strip().strip(",").strip() for line in lines if line.strip().strip(",")
    )
