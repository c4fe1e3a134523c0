"""The import: sidecars to captions and the folder's record, with a copy of every caption that is written over."""

from __future__ import annotations

import itertools
import shutil
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loratools.dataset.caption_files import FilesBeside
from loratools.dataset.encodings import AUTO
from loratools.dataset.folder import CAPTION_EXTENSIONS
from loratools.dataset.sidecars.read import FolderTags, read_folder
from loratools.dataset.tags.picture import Picture
from loratools.dataset.tags.store import DatasetFolder
from loratools.progress import OnProgress

_BEFORE = "before_import"


@dataclass(frozen=True)
class ImportReport:
    """What an import read and wrote.

    Attributes:
        folder: the dataset folder.
        pictures, untagged: how many there are, and how many have no tags after it.
        kept: pictures that were in the record already.
        formats: sidecars read, by kind.
        categories: tags by category; ``set_aside`` those of them that captions do not have.
        grouped: pictures that a site names as variants of others.
        unescaped: tags that lost a prompt's backslashes.
        problems: sidecars left out, and captions not written, a sentence each.
    """

    folder: Path
    pictures: int
    untagged: int
    kept: int
    formats: Mapping[str, int]
    categories: Mapping[str, int]
    set_aside: Mapping[str, int]
    grouped: int
    unescaped: int
    problems: tuple[str, ...]
    written: bool

    @property
    def warnings(self) -> tuple[str, ...]:
        """What to mind, a sentence each."""
        return self.problems

    def json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "folder": str(self.folder),
            "pictures": self.pictures,
            "untagged": self.untagged,
            "kept": self.kept,
            "formats": dict(self.formats),
            "categories": dict(self.categories),
            "set_aside": dict(self.set_aside),
            "grouped": self.grouped,
            "unescaped": self.unescaped,
            "problems": list(self.problems),
            "written": self.written,
        }

    def text(self) -> str:
        """For a person."""
        lines = [f"{self.pictures} pictures in {self.folder}"]
        lines += [f"  {count:>6} {kind}" for kind, count in sorted(self.formats.items())] or ["  no sidecars"]
        lines.append("tags: " + (", ".join(f"{count} {kind}" for kind, count in self.categories.items()) or "none"))
        if self.set_aside:
            aside = ", ".join(f"{count} {kind}" for kind, count in self.set_aside.items())
            lines.append(f"kept in the record and out of captions: {aside} (--keep CATEGORY keeps one in)")
        if self.unescaped:
            lines.append(f"backslashes of prompts taken out of {self.unescaped} tags")
        if self.grouped:
            lines.append(f"{self.grouped} pictures are variants of others, as their site says")
        if self.kept:
            lines.append(f"{self.kept} pictures were in the record already and stay as they are (--again rereads them)")
        if self.untagged:
            lines.append(f"{self.untagged} pictures have no tags: `loratools dataset tag` writes some")
        if not self.written:
            lines.append("nothing was written")
        return "\n".join(lines)


def import_folder(
    folder: str | Path,
    keep: Collection[str] = (),
    *,
    again: bool = False,
    dry_run: bool = False,
    encoding: str = AUTO,
    on_progress: OnProgress | None = None,
) -> ImportReport:
    """Read every sidecar of a folder, and write captions and the record.

    A caption that is written over is copied to ``.dataset/before_import`` first (``before_import-2`` and so on, where
    an earlier import kept another one there).

    Nobody else edits or tags the folder meanwhile; ``dry_run`` looks without waiting for them.

    Args:
        keep: categories that stay in captions: ``artist``, ``meta``, ``rating``, ``model``, ``quality``.
        again: read the sidecars of pictures anew that the record has.
        dry_run: write nothing.
        encoding: of sidecars that are not Unicode; captions are written in UTF-8.
    Raises:
        DatasetError: if the folder or its record cannot be read.
        HeldError: if an edit, another import or the like is writing there.
        FileError: if something cannot be written; what was written until then is whole.
    """
    dataset = DatasetFolder.open(folder, encoding)
    with nullcontext() if dry_run else dataset.writing():
        known = set() if again else set(dataset.recorded())
        read = read_folder(dataset, keep, again=again, on_progress=on_progress)
        fresh = [picture for picture in read.pictures if picture.file not in known]
        notes: tuple[str, ...] = ()
        if not dry_run and fresh:
            _keep_captions(dataset, fresh)
            notes = dataset.write(fresh)
    return _report(dataset.folder, read, len(read.pictures) - len(fresh), notes, written=not dry_run)


def _keep_captions(dataset: DatasetFolder, pictures: Sequence[Picture]) -> None:
    """Copy captions that will be written over, as they are now: where an earlier import kept another one, beside it."""
    beside = FilesBeside()
    for picture in pictures:
        caption = next(iter(beside.find(dataset.path_of(picture), CAPTION_EXTENSIONS)), None)
        if caption is None:
            continue
        for number in itertools.count(1):
            folder = _BEFORE if number == 1 else f"{_BEFORE}-{number}"
            copy = dataset.record_folder / folder / dataset.file_of(caption)
            if not copy.exists():
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(caption, copy)
            if copy.read_bytes() == caption.read_bytes():
                break


def _report(folder: Path, read: FolderTags, kept: int, notes: Sequence[str], *, written: bool) -> ImportReport:
    tags = [tag for picture in read.pictures for tag in (*picture.tags, *picture.set_aside)]
    return ImportReport(
        folder=folder,
        pictures=len(read.pictures),
        untagged=sum(not picture.tags and not picture.sentence for picture in read.pictures),
        kept=kept,
        formats=read.formats,
        categories=dict(Counter(tag.category for tag in tags).most_common()),
        set_aside=dict(Counter(tag.category for picture in read.pictures for tag in picture.set_aside).most_common()),
        grouped=sum(bool(picture.group) for picture in read.pictures),
        unescaped=read.unescaped,
        problems=(*read.problems, *notes),
        written=written,
    )
