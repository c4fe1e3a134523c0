"""A dataset folder's pictures and tags on disk.

The caption file beside a picture says which tags it has, and any editor may change it. What a caption cannot hold (each
tag's category, score and source; tags set aside; groups; origins) is in the record, ``.dataset/tags.jsonl``, a line a
picture. A tag of a caption that the record lacks was written by a person.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from loratools.dataset.caption_files import FilesBeside, read_caption_file
from loratools.dataset.captions import tags_of
from loratools.dataset.folder import CAPTION_EXTENSIONS
from loratools.dataset.tags.names import stable_name
from loratools.dataset.tags.picture import Picture, picture_from_json
from loratools.dataset.tags.tag import Tag
from loratools.dataset.walk import pictures_below
from loratools.errors import DatasetError, LoratoolsError
from loratools.files import write_text

RECORD_FOLDER: Final = ".dataset"
_TAGS = "tags.jsonl"
_WRITERS = 8  # threads that write captions
_HIGHEST = 4  # folders above the one named in which the record is looked for


class DatasetFolder:
    """One dataset folder: its pictures read, and written again.

    Attributes:
        folder: the one that a command names; its pictures are meant.
        root: where the record lies: ``folder``, or one above it that has a record.
    """

    def __init__(self, folder: Path, root: Path) -> None:
        self.folder = folder
        self.root = root
        self._recorded: tuple[str, dict[str, Picture]] | None = None  # the record's text, and what it says

    @classmethod
    def open(cls, folder: str | Path) -> DatasetFolder:
        """The dataset folder at ``folder``.

        Raises:
            DatasetError: if there is no such folder.
        """
        path = Path(folder)
        if not path.is_dir():
            raise DatasetError(f"there is no folder {path}; name a folder of pictures")
        path = path.resolve()
        above = (path, *path.parents[:_HIGHEST])
        return cls(path, next((one for one in above if (one / RECORD_FOLDER).is_dir()), path))

    @property
    def record_folder(self) -> Path:
        """Where records lie; it need not exist."""
        return self.root / RECORD_FOLDER

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
        renamed = {stable_name(file): picture for file, picture in known.items()}  # a folder may have another number
        beside = FilesBeside()
        pictures, unreadable = [], dict[str, str]()
        for path in pictures_below(self.folder):
            file = self.file_of(path)
            picture = known.get(file) or replace(renamed.get(stable_name(file), Picture(file)), file=file)
            caption = beside.first(path, CAPTION_EXTENSIONS)
            if caption is not None:
                try:
                    picture = captioned(picture, read_caption_file(caption))
                except LoratoolsError as error:
                    unreadable[picture.file] = str(error)
            elif picture.tags:
                picture = replace(picture, tags=(), sentence="")
            pictures.append(picture)
        return ReadPictures(pictures, unreadable)

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
        for number, line in enumerate(text.splitlines(), 1):
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
            text, old = f"{next(iter(texts))}\n", _text_of(file)
            if old is None:
                notes.append(f"the caption {file} cannot be read as UTF-8, and was left as it is; save it as UTF-8")
            elif text.strip() != old.strip() or old.count("\n") > 1:
                due.append((file, text))
        with ThreadPoolExecutor(_WRITERS) as writers:  # a rename onto a file waits for the disk
            for _ in writers.map(lambda one: write_text(*one, sync=False), due):
                pass
        return tuple(notes)

    def _write_record(self, pictures: Mapping[str, Picture]) -> None:
        lines = (json.dumps(picture.json(), ensure_ascii=False) for _, picture in sorted(pictures.items()))
        write_text(self.record_folder / _TAGS, "".join(f"{line}\n" for line in lines))


@dataclass(frozen=True)
class ReadPictures:
    """What :meth:`DatasetFolder.read` gives: ``pictures``, and by file a sentence for each caption that cannot be
    read. Writing such a picture would replace a caption that nobody has read."""

    pictures: list[Picture]
    unreadable: Mapping[str, str]

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
    known = {tag.name.lower(): tag for tag in (*picture.set_aside, *picture.tags)}
    names = tags_of(listed)
    if not sentence and not picture.sentence and names == [tag.name for tag in picture.tags]:
        return picture
    tags = [_named(known.get(name.lower()), name) for name in names]
    written = {name.lower() for name in names}
    aside = tuple(tag for tag in picture.set_aside if tag.name.lower() not in written)
    return replace(picture, sentence=sentence, set_aside=aside).with_tags(tags)


def _named(tag: Tag | None, name: str) -> Tag:
    """What is known of a tag, spelled as a caption has it."""
    if tag is None:
        return Tag(name)
    return tag if tag.name == name else replace(tag, name=name)


def _text_of(path: Path) -> str | None:
    """What a caption has now; empty where there is none, None where it cannot be read."""
    try:
        data = path.read_bytes()
        # a caption in UTF-16 keeps its mark here, so that it differs from any text and is written anew
        return data.decode("utf-16-le" if data[:2] == b"\xff\xfe" else "utf-8-sig")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError):
        return None
