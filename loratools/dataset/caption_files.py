"""The caption of every image, from a metadata file or the text file beside it, and what lies there unread.

The caption of ``0.png`` is ``0.txt``, or else ``0.png.txt`` as downloaders write it; the ending may be in capitals.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from loratools.dataset.caption_metadata import Captions, read_caption_entry
from loratools.dataset.folder import CAPTION_EXTENSIONS, Folder, files_in
from loratools.errors import DatasetError

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
        self._folders: dict[Path, dict[str, list[Path]]] = {}

    def first(self, image: Path, extensions: Sequence[str]) -> Path | None:
        """The first of :meth:`find`; None if there is none."""
        listed = self._listed(image.parent)
        for start in (image.stem, image.name):
            for name in (f"{start}{extension}" for extension in extensions):
                for file in listed.get(name.lower(), ()):
                    if file.name == name:
                        return file
                if name.lower() in listed:
                    return next(iter(self.find(image, extensions)), None)
        return None

    def find(self, image: Path, extensions: Sequence[str]) -> list[Path]:
        """Files named after ``image`` without its ending, or with it, and one of ``extensions``, whatever its case.

        First those without the image's ending, in the order of ``extensions``.
        """
        listed = self._listed(image.parent)
        files: list[Path] = []
        for start in (image.stem, image.name):
            for name in (f"{start}{extension}" for extension in extensions):
                same = [file for file in listed.get(name.lower(), ()) if file.name.startswith(start)]
                files += [file for file in same if file.name == name] + [file for file in same if file.name != name]
        return list(dict.fromkeys(files))

    def _listed(self, folder: Path) -> dict[str, list[Path]]:
        if folder not in self._folders:
            by_name = self._folders[folder] = {}
            for file in files_in(folder):
                by_name.setdefault(file.name.lower(), []).append(file)
        return self._folders[folder]


def find_captions(folder: Folder, paths: Sequence[Path], listed: Captions, word: str) -> FolderCaptions:
    """The captions of a folder's images, those images that have none, and a note for each kind of file left unread.

    Args:
        listed: what the folder's metadata file holds.
        word: stands in for all captions where no image has one in any form (sd-scripts' class-and-identifier way);
            it is then the folder's ``class_tokens``.
    Raises:
        DatasetError: for a caption or a metadata file that cannot be read.
    """
    beside = FilesBeside()
    captions = [_find(path, folder, listed, beside) for path in paths]
    class_tokens, notes = folder.class_tokens, list[str]()
    bare = not listed.by_name and not any(caption.source or caption.unread for caption in captions)
    if class_tokens is None and word and bare:
        class_tokens = word
        notes.append(f"{folder.path} has no captions; every image is captioned '{word}', from its name")
    notes += _unread(folder, captions)
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


def _find(path: Path, folder: Folder, listed: Captions, beside: FilesBeside) -> _Caption:
    extensions = folder.options.extensions
    read = beside.find(path, extensions)
    files = list(dict.fromkeys((*read, *beside.find(path, (*CAPTION_EXTENSIONS, *_OTHER_EXTENSIONS)))))
    text, source = listed.of(path), folder.options.metadata_file
    if not text:
        source = next(iter(read), None)
        text = read_caption_file(source, folder.rules.wildcards, folder.rules.separator) if source else ""
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
    return file.name[len(image.stem) :]


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


def read_caption_file(path: Path, lines_apart: bool = False, separator: str = ",") -> str:
    """The caption in a file; its lines (one tag a line, as some taggers write) are joined with commas, or kept apart.

    Of a ``.json`` it is what its ``caption`` and ``tags`` say.

    Raises:
        DatasetError: if it cannot be read, or is not UTF-8.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise DatasetError(f"the caption {path} cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise DatasetError(f"the caption {path} is not UTF-8 (byte {error.start}); save it as UTF-8") from error
    if path.suffix.lower() == ".json":
        return read_caption_entry(text, path, separator)
    return ("\n" if lines_apart else ", ").join(
        line.strip().strip(",").strip() for line in text.splitlines() if line.strip().strip(",")
    )
