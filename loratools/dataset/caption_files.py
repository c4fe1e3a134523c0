"""The caption of every image, from a metadata file or the text file beside it, and what lies there unread.

The caption of ``0.png`` is ``0.txt``, or else ``0.png.txt`` as downloaders write it; the ending may be in capitals, and
letters with marks may be spelled in either of Unicode's ways.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from loratools.dataset.caption_metadata import Captions, read_caption_entry
from loratools.dataset.encodings import TextReader
from loratools.dataset.folder import CAPTION_EXTENSIONS, IMAGE_EXTENSIONS, Folder, file_names_in
from loratools.errors import DatasetError
from loratools.file_names import composed

_SHOWN = 10
# what captions of one image are called besides: named as unread, so that the folder's word never replaces them
_OTHER_EXTENSIONS = (".json", ".tags", ".tag", ".cap", ".captions", ".text", ".yaml", ".yml", ".xml")


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
    """The captions of one folder, in the order of its images; ``class_tokens`` stood in for those that are missing.

    Attributes:
        files: every file that belongs to an image, those that are unread (and named in ``notes``) too.
    """

    texts: tuple[str, ...]
    class_tokens: str | None
    uncaptioned: tuple[Uncaptioned, ...]
    notes: tuple[str, ...]
    files: frozenset[Path]


@dataclass(frozen=True)
class _Caption:
    """The text of one image, the file it is from (None: from none), and the files that could have held it."""

    image: Path
    text: str
    source: Path | None
    unread: tuple[Path, ...]


class FilesBeside:
    """The files beside images, found by the images' names; every folder is listed once."""

    def __init__(self) -> None:
        self._folders: dict[str, dict[str, list[str]]] = {}

    def first(self, image: Path, extensions: Sequence[str]) -> Path | None:
        """The first of :meth:`find`; None if there is none."""
        folder, _, own = str(image).rpartition(os.sep)  # of thousands, far quicker than a Path's own parts
        listed = self._listed(folder)
        for start in (own.rpartition(".")[0] or own, own):
            for extension in extensions:
                name = f"{start}{extension}"
                same = listed.get(_key(name))
                if same is None:
                    continue
                return Path(folder, name) if name in same else next(iter(self.find(image, extensions)), None)
        return None

    def find(self, image: Path, extensions: Sequence[str]) -> list[Path]:
        """Files named after ``image`` without its ending, or with it, and one of ``extensions``, whatever its case.

        First those without the image's ending, in the order of ``extensions``. A name whose letters with marks are
        spelled apart, as macOS does, is the same name; but what another image has by its very spelling is that one's.
        """
        folder = str(image).rpartition(os.sep)[0]
        listed = self._listed(folder)
        files: list[str] = []
        for start in (image.stem, image.name):
            for name in (f"{start}{extension}" for extension in extensions):
                same = [file for file in listed.get(_key(name), ()) if _begins(file, start, name, listed)]
                files += sorted(same, key=lambda file, name=name: (file != name, composed(file) != composed(name)))  # type: ignore[misc]
        return [Path(folder, file) for file in dict.fromkeys(files)]

    def images_of(self, caption: Path, extensions: Sequence[str]) -> list[Path]:
        """The images that have a file as their caption: ``a.png`` and ``a.jpg`` may have one ``a.txt``."""
        folder, _, own = str(caption).rpartition(os.sep)
        listed, stem = self._listed(folder), own.rpartition(".")[0]
        images = [Path(folder, image) for ending in IMAGE_EXTENSIONS for image in listed.get(_key(stem + ending), ())]
        return sorted(image for image in images if self.first(image, extensions) == caption)

    def _listed(self, folder: str) -> dict[str, list[str]]:
        """The names of a folder's files by their small letters, each with its marks as one character."""
        if folder not in self._folders:
            by_name = self._folders[folder] = {}
            for file in file_names_in(folder or os.curdir):
                by_name.setdefault(_key(file), []).append(file)
        return self._folders[folder]


def _key(name: str) -> str:
    """What names that mean one file have in common."""
    return composed(name.lower())


def _begins(file: str, start: str, name: str, listed: Mapping[str, list[str]]) -> bool:
    """Whether a ``file`` whose key is that of ``name`` begins with ``start``, which is an image's name with or without
    its ending."""
    if file.startswith(start):
        return True
    if not composed(file).startswith(composed(start)):
        return False
    own = file[: len(file) - len(name.removeprefix(start))]
    others = (image for ending in ("", *IMAGE_EXTENSIONS) for image in listed.get(_key(f"{own}{ending}"), ()))
    return not any(image == own or image.rpartition(".")[0] == own for image in others)


def find_captions(folder: Folder, paths: Sequence[Path], listed: Captions, word: str) -> FolderCaptions:
    """The captions of a folder's images, those images that have none, and a note for each kind of file left unread.

    Args:
        listed: what the folder's metadata file holds.
        word: stands in for all captions where no image has one in any form (sd-scripts' class-and-identifier way);
            it is then the folder's ``class_tokens``.
    Raises:
        DatasetError: for a caption or a metadata file that cannot be read.
    """
    beside, reader = FilesBeside(), TextReader(folder.options.encoding)
    captions = [_find(path, folder, listed, beside, reader) for path in paths]
    class_tokens, notes = folder.class_tokens, list[str]()
    bare = not listed.by_name and not any(caption.source or caption.unread for caption in captions)
    if class_tokens is None and word and bare:
        class_tokens = word
        notes.append(f"{folder.path} has no captions; every image is captioned '{word}', from its name")
    notes += [*_unread(folder, captions), *reader.notes()]
    uncaptioned = (
        Uncaptioned(
            caption.image, caption.image.with_suffix(folder.options.extensions[0]), next(iter(caption.unread), None)
        )
        for caption in captions
        if not caption.text and class_tokens is None
    )
    files = {file for caption in captions for file in (caption.source, *caption.unread) if file is not None}
    texts = tuple(caption.text or class_tokens or "" for caption in captions)
    return FolderCaptions(texts, class_tokens, tuple(uncaptioned), tuple(notes), frozenset(files))


def refuse_uncaptioned(missing: Sequence[Uncaptioned]) -> None:
    """Raise DatasetError, with the file that is expected and how to name another, for images without a caption."""
    if not missing:
        return
    shown = ", ".join(str(image.path) for image in missing[:_SHOWN])
    more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
    beside = next(((image.path, image.unread, image.expected) for image in missing if image.unread), None)
    if beside is not None:
        path, unread, expected = beside
        extension = _extension(unread, path)
        count = sum(image.unread is not None for image in missing)
        remedy = (
            f"{count} of them have a {extension}, such as {unread.name}, which is not read, "
            f"since {expected.name} is expected; set caption_extension to {extension}"
        )
    else:
        remedy = f"write their tags into {missing[0].expected.name} and so on, or name another caption_extension"
    raise DatasetError(
        f"{len(missing)} images have no caption, or an empty one: {shown}{more}; {remedy}, set class_tokens for the "
        "folder, or pass `allow_uncaptioned=True`"
    )


def _find(path: Path, folder: Folder, listed: Captions, beside: FilesBeside, reader: TextReader) -> _Caption:
    extensions = folder.options.extensions
    read = beside.find(path, extensions)
    files = list(dict.fromkeys((*read, *beside.find(path, (*CAPTION_EXTENSIONS, *_OTHER_EXTENSIONS)))))
    text, source = listed.of(path), folder.options.metadata_file
    if not text:
        source = next(iter(read), None)
        text = read_caption_file(source, folder.rules.wildcards, folder.rules.separator, reader) if source else ""
    return _Caption(path, text, source, tuple(file for file in files if file not in (source, path)))


def _unread(folder: Folder, captions: Sequence[_Caption]) -> Iterator[str]:
    """One note for each extension that is not read and the reason for it."""
    kinds: Mapping[tuple[str, str, str], list[Path]] = defaultdict(list)
    for caption in captions:
        for file in caption.unread:
            extension = _extension(file, caption.image)
            kinds[extension, *_reason(caption, folder, extension)].append(file)
    for (extension, reason, remedy), files in kinds.items():
        several = " and so on" if len(files) > 1 else ""
        yield f"not read: {len(files)} {extension} in {folder.path} ({files[0].name}{several}), {reason}; {remedy}"


def _extension(file: Path, image: Path) -> str:
    """What a file's name has after that of its image: ``.txt``, or ``.png.txt`` where it has the image's ending too."""
    return composed(file.name)[len(composed(image.stem)) :]


def _reason(caption: _Caption, folder: Folder, extension: str) -> tuple[str, str]:
    """Why a file of this extension is not the caption, and how it would be."""
    read_instead = f"set caption_extension to {extension} to read them"
    if caption.source is None:
        return f"since captions are expected in {' or '.join(folder.options.extensions)}", read_instead
    if caption.source == folder.options.metadata_file:
        return f"since {caption.source} has these images' captions", "leave metadata_file out to read them"
    is_read = _extension(caption.source, caption.image)
    if is_read.lower() == extension.lower():
        return f"since the {is_read} of the same name is", "take them away, or rename them"
    return f"since the {is_read} of the same name is", read_instead


def read_caption_file(
    path: Path, lines_apart: bool = False, separator: str = ",", texts: TextReader | None = None
) -> str:
    """The caption in a file; its lines (one tag a line, as some taggers write) are joined with commas, or kept apart.

    Of a ``.json`` it is what its ``caption`` and ``tags`` say.

    Args:
        texts: reads it; one that finds the encoding by itself, if left out.
    Raises:
        DatasetError: if it cannot be read, or its encoding is not known.
    """
    text = (texts or TextReader()).read(path)
    return read_caption_entry(text, path, separator) if path.suffix.lower() == ".json" else one_line(text, lines_apart)


def one_line(text: str, lines_apart: bool = False) -> str:
    """The caption that a file's text is: its lines joined with commas, or kept apart; empty ones go."""
    lines = (line.strip().strip(",").strip() for line in text.splitlines())
    return ("\n" if lines_apart else ", ").join(line for line in lines if line)
