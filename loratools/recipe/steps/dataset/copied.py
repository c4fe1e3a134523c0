"""A step's folder of pictures that follows another folder: what is new is copied, what is gone there goes here.

``.dataset/step.json`` says whose folder it is, which bytes it has, and which captions the step wrote: one that is
another now was written by a person.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from loratools.digests import file_digest
from loratools.errors import DatasetError, FileError
from loratools.files import replacing, write_text

if TYPE_CHECKING:
    from loratools.dataset.edits.log import Edit
    from loratools.dataset.tags.picture import Picture
    from loratools.dataset.tags.store import DatasetFolder

MARKER: Final = ".dataset/step.json"
_BESIDE: Final = ("masks",)  # folders that go with the pictures


@dataclass(frozen=True)
class Written:
    """What a step wrote the last time.

    Attributes:
        files: digest of each picture and mask, by its path in the folder.
        captions: text of each caption, by its picture's path.
        by_hand: captions that a person had changed, which the step keeps.
        entries: the last entry of the folder's own log of edits at that time.
        writing: captions that the step was about to write when it was killed.
    """

    owner: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    captions: Mapping[str, str] = field(default_factory=dict)
    by_hand: Mapping[str, str] = field(default_factory=dict)
    entries: int = 0
    writing: Mapping[str, str] = field(default_factory=dict)


def written(out: Path) -> Written | None:
    """What a step wrote into ``out``; None where none did."""
    try:
        value = json.loads((out / MARKER).read_text(encoding="utf-8"))
        maps = {name: dict(value[name]) for name in ("files", "captions", "by_hand")}
        return Written(str(value["owner"]), **maps, entries=int(value["entries"]), writing=value.get("writing", {}))
    except (OSError, ValueError, KeyError, TypeError):
        return None


class CopiedFolder:
    """The folder of a step, while it is made.

    Args:
        owner: the step, which may overwrite what it wrote itself.
    """

    def __init__(self, source: DatasetFolder, out: Path, owner: str, *, force: bool = False) -> None:
        """Raises FileError if ``out`` holds something that the step did not write."""
        self.source, self.out, self._owner = source, out, owner
        before = written(out)
        if before is not None and before.owner == owner:
            self.before = before
        elif out.is_file() or (out.exists() and any(out.iterdir()) and not force):
            raise FileError(
                f"{out} exists and was not written by this step; give the step another `out`, or use `force=True`"
            )
        else:
            self.before = Written(owner)

    def follow(self, pictures: Iterable[Picture]) -> int:
        """Bring the pictures and their masks up to date; how many were copied.

        What the step wrote and is no longer asked for is deleted, with its caption.
        """
        files = {picture.file: self.source.path_of(picture) for picture in pictures}
        for folder in _BESIDE:
            there = self.source.root / folder
            masks = sorted(path for path in there.rglob("*") if path.is_file()) if there.is_dir() else []
            files |= {path.relative_to(self.source.root).as_posix(): path for path in masks}
        digests, copied = dict[str, str](), 0
        self._mark(self.before)  # so that a run that is killed finds its own folder again
        for file, path in files.items():
            digests[file] = file_digest(path)
            target = self.out / file
            if self.before.files.get(file) != digests[file] or not target.is_file():
                with replacing(target, sync=False) as part:
                    shutil.copy2(path, part)
                copied += 1
        for file in set(self.before.files) - set(files):
            (self.out / file).unlink(missing_ok=True)
            if file in self.before.captions:
                (self.out / file).with_suffix(".txt").unlink(missing_ok=True)
        self._files = digests
        return copied

    def write(self, pictures: Iterable[Picture], by_hand: Mapping[str, str] | None = None) -> None:
        """Write captions and the record.

        Args:
            by_hand: captions that a person wrote, by picture: they stay as they are.
        Raises:
            DatasetError: if two pictures share a caption that should be two.
        """
        from loratools.dataset.edits.log import OperationLog
        from loratools.dataset.tags.store import RECORD_FOLDER, DatasetFolder, captioned

        kept = by_hand or {}
        result = [captioned(each, kept[each.file]) if each.file in kept else each for each in pictures]
        captions = {each.file: each.caption() for each in result}
        self._mark(replace(self.before, writing=captions))  # so that a kill makes no person's captions of them
        record = self.out.resolve() / RECORD_FOLDER
        record.mkdir(parents=True, exist_ok=True)
        (record / "tags.jsonl").unlink(missing_ok=True)  # so that nothing of pictures that are gone stays
        for sentence in DatasetFolder(record.parent, record.parent).write(result):
            raise DatasetError(sentence)
        entries = OperationLog(record).entries()
        left = {file: kept[file] for file in kept if file in captions}
        self._mark(Written(self._owner, self._files, captions, left, entries[-1].id if entries else 0))

    def _mark(self, state: Written) -> None:
        value: dict[str, Any] = {name: getattr(state, name) for name in Written.__dataclass_fields__}
        write_text(self.out / MARKER, json.dumps(value, ensure_ascii=False, indent=1))


@dataclass(frozen=True)
class DoneHere:
    """What a person did in a step's folder since the step wrote it, which counts as part of the step.

    Attributes:
        edits: of the folder's own log, that hold.
        by_hand: captions that neither the step nor these edits wrote, by picture.
    """

    edits: tuple[Edit, ...] = ()
    by_hand: Mapping[str, str] = field(default_factory=dict)

    def json(self) -> dict[str, Any]:
        """For the step's key; empty where nothing was done."""
        values = {"own": [edit.json() for edit in self.edits], "by_hand": dict(self.by_hand)}
        return {name: value for name, value in values.items() if value}


def done_here(out: Path, owner: str) -> DoneHere:
    """What a person did in the folder ``out`` of the step ``owner``."""
    from loratools.dataset.edits.log import OperationLog

    before = written(out)
    if before is None or before.owner != owner:
        return DoneHere()
    edits = tuple(entry.edit for entry in OperationLog(out / ".dataset").active() if entry.edit is not None)
    return DoneHere(edits, changed_by_hand(out, before))


def changed_by_hand(out: Path, before: Written) -> dict[str, str]:
    """The captions of a step's folder that neither the step nor the logged edits after it wrote, by picture."""
    from loratools.dataset.caption_files import read_caption_file
    from loratools.dataset.edits.log import OperationLog

    expected = OperationLog(out / ".dataset").captions_after(before.captions, before.entries)
    changed = {}
    for file, text in expected.items():
        path = (out / file).with_suffix(".txt")
        if not path.is_file() or not (out / file).is_file():
            continue  # without its caption a picture is the step's again
        try:
            now = read_caption_file(path)
        except DatasetError:
            continue
        if now not in (text, before.writing.get(file)) or file in before.by_hand:
            changed[file] = now
    return changed
