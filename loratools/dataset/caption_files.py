"""The caption of every image, from a metadata file or the text file beside it, and what lies there unread."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from loratools.dataset.caption_metadata import Captions
from loratools.dataset.folder import CAPTION_EXTENSIONS, Folder
from loratools.errors import DatasetError

_SHOWN = 10


@dataclass(frozen=True)
class Uncaptioned:
    """An image without a caption, or with an empty one.

    Attributes:
        expected: the caption file that would be read.
        unread: one that is there but is not read.
    """

    path: Path
    expected: Path
    unread: Path | None


@dataclass(frozen=True)
class FolderCaptions:
    """The captions of one folder, in the order of its images; ``class_tokens`` stood in for those that are missing."""

    texts: tuple[str, ...]
    class_tokens: str | None
    uncaptioned: tuple[Uncaptioned, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Caption:
    """The text of one image, the file it is from (None: from none), and the files that could have held it."""

    text: str
    source: Path | None
    unread: tuple[Path, ...]


def find_captions(folder: Folder, paths: Sequence[Path], listed: Captions, word: str) -> FolderCaptions:
    """The captions of a folder's images, those images that have none, and a note for each kind of file left unread.

    Args:
        listed: what the folder's metadata file holds.
        word: stands in for all captions where no image has one in any form (sd-scripts' class-and-identifier way);
            it is then the folder's ``class_tokens``.
    Raises:
        DatasetError: for a caption or a metadata file that cannot be read.
    """
    captions = [_find(path, folder, listed) for path in paths]
    class_tokens, notes = folder.class_tokens, list[str]()
    bare = not listed.by_name and not any(caption.source or caption.unread for caption in captions)
    if class_tokens is None and word and bare:
        class_tokens = word
        notes.append(f"{folder.path} has no captions; every image is captioned '{word}', from its name")
    notes += _unread(folder, captions)
    uncaptioned = (
        Uncaptioned(path, path.with_suffix(folder.options.extensions[0]), next(iter(caption.unread), None))
        for path, caption in zip(paths, captions, strict=True)
        if not caption.text and class_tokens is None
    )
    texts = tuple(caption.text or class_tokens or "" for caption in captions)
    return FolderCaptions(texts, class_tokens, tuple(uncaptioned), tuple(notes))


def refuse_uncaptioned(missing: Sequence[Uncaptioned]) -> None:
    """Raise DatasetError, with the file that is expected and how to name another, for images without a caption."""
    if not missing:
        return
    shown = ", ".join(str(image.path) for image in missing[:_SHOWN])
    more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
    beside = next(((image.unread, image.expected) for image in missing if image.unread), None)
    if beside is not None:
        unread, expected = beside
        count = sum(image.unread is not None for image in missing)
        remedy = (
            f"{count} of them have a {unread.suffix}, such as {unread.name}, which is not read, "
            f"since {expected.name} is expected; set caption_extension to {unread.suffix}"
        )
    else:
        remedy = f"write their tags into {missing[0].expected.name} and so on, or name another caption_extension"
    raise DatasetError(
        f"{len(missing)} images have no caption, or an empty one: {shown}{more}; {remedy}, set class_tokens for the "
        "folder, or pass --allow-uncaptioned"
    )


def _find(path: Path, folder: Folder, listed: Captions) -> _Caption:
    extensions = folder.options.extensions
    beside = [path.with_suffix(extension) for extension in dict.fromkeys((*extensions, *CAPTION_EXTENSIONS))]
    beside = [file for file in beside if file.is_file()]
    text, source = listed.of(path), folder.options.metadata_file
    if not text:
        source = next((file for file in beside if file.suffix in extensions), None)
        text = _read(source, folder.rules.wildcards) if source else ""
    return _Caption(text, source, tuple(file for file in beside if file != source))


def _unread(folder: Folder, captions: Sequence[_Caption]) -> Iterator[str]:
    """One note for each extension that is not read and the reason for it."""
    kinds: Mapping[tuple[str, str, str], list[Path]] = defaultdict(list)
    for caption in captions:
        for file in caption.unread:
            kinds[file.suffix, *_reason(caption, folder, file.suffix)].append(file)
    for (suffix, reason, remedy), files in kinds.items():
        several = " and so on" if len(files) > 1 else ""
        yield f"not read: {len(files)} {suffix} in {folder.path} ({files[0].name}{several}), {reason}; {remedy}"


def _reason(caption: _Caption, folder: Folder, suffix: str) -> tuple[str, str]:
    """Why a file of this suffix is not the caption, and how it would be."""
    read_instead = f"set caption_extension to {suffix} to read them"
    if caption.source is None:
        return f"since captions are expected in {' or '.join(folder.options.extensions)}", read_instead
    if caption.source == folder.options.metadata_file:
        return f"since {caption.source} has these images' captions", "leave metadata_file out to read them"
    return f"since the {caption.source.suffix} of the same name is", read_instead


def _read(path: Path, lines_apart: bool) -> str:
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
