"""A dataset folder's pictures and tags on disk.

The caption file beside a picture says which tags it has, and any editor may change it. What a caption cannot hold (each
tag's category, score and source; tags set aside; groups; origins) is in the record, ``.dataset/tags.jsonl``, a line a
picture. A tag of a caption that the record lacks was written by a person.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Final

from loratools.dataset.caption_files import FilesBeside, read_caption_file
from loratools.dataset.captions import tags_of
from loratools.dataset.encodings import AUTO, TextReader
from loratools.dataset.folder import CAPTION_EXTENSIONS
from loratools.dataset.tags.names import stable_name
from loratools.dataset.tags.picture import Picture, picture_from_json
from loratools.dataset.tags.tag import Tag
from loratools.dataset.walk import pictures_below
from loratools.errors import DatasetError, LoratoolsError
from loratools.files import json_lines, locked, write_text, write_texts

RECORD_FOLDER: Final = ".dataset"
OPERATIONS: Final = "operations.jsonl"  # of the record folder: the log of edits
_TAGS = "tags.jsonl"
_HIGHEST = 4  # folders above the one named in which the record is looked for


class DatasetFolder:
    """One dataset folder: its pictures read, and written again.

    Attributes:
        folder: the one that a command names; its pictures are meant.
        root: where the record lies: ``folder``, or one above it that has a record.
        texts: reads captions and sidecars.
    """

    def __init__(self, folder: Path, root: Path, encoding: str = AUTO) -> None:
        self.folder = folder
        self.root = root
        self.texts = TextReader(encoding)
        self._recorded: tuple[str, dict[str, Picture]] | None = None  # the record's text, and what it says

    @classmethod
    def open(cls, folder: str | Path, encoding: str = AUTO) -> DatasetFolder:
        """The dataset folder at ``folder``.

        Args:
            encoding: of captions and sidecars that are not Unicode; ``auto`` finds it where it is sure.
        Raises:
            DatasetError: if there is no such folder.
            OptionError: if there is no such encoding.
        """
        path = Path(folder)
        if not path.is_dir():
            raise DatasetError(f"there is no folder {path}; name a folder of pictures")
        path = path.resolve()
        above = (path, *path.parents[:_HIGHEST])
        return cls(path, next((one for one in above if (one / RECORD_FOLDER).is_dir()), path), encoding)

    @property
    def record_folder(self) -> Path:
        """Where records lie; it need not exist."""
        return self.root / RECORD_FOLDER

    def writing(self) -> AbstractContextManager[None]:
        """Held by whoever reads captions and record to write them again: edits, their undo, tagging, imports and
        ``prepare`` exclude one another, so that none writes over what another has just written.

        Raises:
            HeldError: if another of them is at work there.
        """
        return locked(self.record_folder / OPERATIONS)

    def path_of(self, picture: Picture) -> Path:
        """Where a picture lies."""
        return self.root / picture.file

    def file_of(self, path: Path) -> str:
        """How a picture's path is written in the record."""
        return path.relative_to(self.root).as_posix()

    def pictures(self) -> list[Picture]:
        """Every picture of the folder with its tags, as captions and record have them; those whose caption cannot be
        read keep the record's tags.

        Raises:
            DatasetError: if the folder or the record cannot be read.
        """
        return self.read().pictures

    def read(self) -> ReadPictures:
        """Every picture of the folder, and what of it could not be read."""
        known = self.recorded()
        root = f"{self.root}{os.sep}"
        renamed = {stable_name(file): picture for file, picture in known.items()}  # a folder may have another number
        beside = FilesBeside()
        pictures, unreadable = [], dict[str, str]()
        for path in pictures_below(self.folder):
            file = str(path).removeprefix(root).replace(os.sep, "/")
            picture = known.get(file)
            if picture is None:
                other = renamed.get(stable_name(file)) if renamed else None
                picture = Picture(file) if other is None else replace(other, file=file)
            caption = beside.first(path, CAPTION_EXTENSIONS)
            if caption is not None:
                try:
                    picture = captioned(picture, read_caption_file(caption, texts=self.texts))
                except LoratoolsError as error:
                    unreadable[picture.file] = str(error)
            elif picture.tags:
                picture = replace(picture, tags=(), sentence="")
            pictures.append(picture)
        return ReadPictures(pictures, unreadable, self.texts.notes())

    def recorded(self) -> dict[str, Picture]:
        """The record alone: what it holds by file, of pictures that are gone too.

        Raises:
            DatasetError: naming the line that cannot be read.
        """
        path = self.record_folder / _TAGS
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return {}
        except (OSError, UnicodeDecodeError) as error:
            raise DatasetError(
                f"the record {path} cannot be read ({error}); move it away to begin a new one"
            ) from error
        if self._recorded is not None and self._recorded[0] == text:
            return dict(self._recorded[1])
        pictures = {}
        for number, line in enumerate(json_lines(text), 1):
            try:
                picture = picture_from_json(json.loads(line))
            except (json.JSONDecodeError, DatasetError) as error:
                raise DatasetError(
                    f"{path}, line {number} is no picture ({error}); mend the line, or take it out"
                ) from error
            pictures[picture.file] = picture
        self._recorded = text, pictures
        return dict(pictures)

    def write(self, pictures: Iterable[Picture], forget: Collection[str] = ()) -> tuple[str, ...]:
        """Write captions that differ from what is there, and the record; what the record has of other pictures stays.

        Args:
            forget: files that the record drops: pictures that were moved or taken out.

        Returns:
            A sentence for each picture that could not be written as asked; the others are.
        Raises:
            FileError, OSError: if the record or a caption cannot be written; captions written until then stay, and are
                whole.
        """
        pictures = list(pictures)
        notes = self.write_captions(pictures)
        known = {file: picture for file, picture in self.recorded().items() if file not in forget}
        known |= {picture.file: picture for picture in pictures}
        self._write_record(known)
        return notes

    def write_captions(self, pictures: Sequence[Picture]) -> tuple[str, ...]:
        """Write the captions alone; see :meth:`write`."""
        beside = FilesBeside()
        wanted: Mapping[Path, list[Picture]] = defaultdict(list)
        for picture in pictures:
            path = self.path_of(picture)
            there = beside.first(path, CAPTION_EXTENSIONS)
            wanted[there or path.with_suffix(CAPTION_EXTENSIONS[0])].append(picture)
        notes, due = [], list[tuple[Path, str]]()
        for file, sharing in wanted.items():
            texts = dict.fromkeys(picture.caption() for picture in sharing)
            if len(texts) > 1:
                names = " and ".join(Path(picture.file).name for picture in sharing)
                notes.append(f"{names} share the caption {file}, which was left as it is; rename one of them")
                continue
            text = f"{next(iter(texts))}\n"
            try:
                if self._differs(file, text):
                    due.append((file, text))
                    notes += self._also_theirs(file, sharing, beside)
            except DatasetError as error:
                notes.append(f"{error}; it was left as it is")
        write_texts(due)
        return tuple(notes)

    def _also_theirs(self, file: Path, pictures: Sequence[Picture], beside: FilesBeside) -> Iterator[str]:
        """A sentence on the pictures that get a new caption although none was meant for them."""
        meant = {self.path_of(picture) for picture in pictures}
        others = [image.name for image in beside.images_of(file, CAPTION_EXTENSIONS) if image not in meant]
        if others:
            yield f"{' and '.join(others)} got the same caption, since {file} is theirs too; rename one of the pictures"

    def _differs(self, file: Path, text: str) -> bool:
        """Whether a caption is to be written: it says something else, has several lines, or is not in UTF-8.

        Raises:
            DatasetError: if it cannot be read, so that nobody knows what would be lost.
        """
        try:
            data = file.read_bytes()
        except FileNotFoundError:
            return text.strip() != ""
        except OSError as error:
            raise DatasetError(f"the caption {file} cannot be read ({error.strerror or error})") from error
        if data.strip() == text.strip().encode("utf-8", "replace") and data.count(b"\n") <= 1:
            return False
        self.texts.decoded(file, data)
        return True

    def _write_record(self, pictures: Mapping[str, Picture]) -> None:
        lines = (json.dumps(picture.json(), ensure_ascii=False) for _, picture in sorted(pictures.items()))
        write_text(self.record_folder / _TAGS, "".join(f"{line}\n" for line in lines))


@dataclass(frozen=True)
class ReadPictures:
    """What :meth:`DatasetFolder.read` gives: ``pictures``, and by file a sentence for each caption that cannot be
    read. Writing such a picture would replace a caption that nobody has read. ``read_as``: a sentence for each folder
    whose captions were read as something else than UTF-8."""

    pictures: list[Picture]
    unreadable: Mapping[str, str]
    read_as: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What to mind."""
        return (*self.unreadable.values(), *self.read_as)

    def readable(self) -> list[Picture]:
        """The pictures whose caption was read, or that have none."""
        return [picture for picture in self.pictures if picture.file not in self.unreadable]


def captioned(picture: Picture, caption: str) -> Picture:
    """The recorded ``picture`` with the tags that its ``caption`` has now, in its order.

    Tags keep the category, score and source that the record has for their name. A sentence of the record stays the
    sentence if the caption still ends with it.
    """
    sentence = picture.sentence if picture.sentence and caption.rstrip().endswith(picture.sentence) else ""
    listed = caption.rstrip().removesuffix(sentence) if sentence else caption
    names = tags_of(listed)
    if not sentence and not picture.sentence and names == [tag.name for tag in picture.tags]:
        return picture
    known = {tag.name.lower(): tag for tag in (*picture.set_aside, *picture.tags)}
    first = {name.lower(): name for name in reversed(names)}  # of names that differ in capitals the first one stays
    written = dict.fromkeys(map(str.lower, names))
    tags = tuple(_named(known.get(lower), first[lower]) for lower in written)
    aside = tuple(tag for tag in picture.set_aside if tag.name.lower() not in written)
    return replace(picture, sentence=sentence, set_aside=aside, tags=tags)


def _named(tag: Tag | None, name: str) -> Tag:
    """What is known of a tag, spelled as a caption has it."""
    if tag is None:
        return _of_caption(name)
    return tag if tag.name == name else replace(tag, name=name)


@lru_cache(1 << 16)
def _of_caption(name: str) -> Tag:
    """A tag of which only its caption knows; a folder has the same tags over and over."""
    return Tag(name)
