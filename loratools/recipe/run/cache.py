"""The cache: finished results by what made them, shared by runs and processes, checked by digest, limited in size.

``ROOT/objects/ID`` holds ``record.json`` and ``result``, a file or folder. ID is a hash of everything that determines
the bytes, so an object never changes; it appears whole by a rename, and is taken back only if every byte still has
the digest that was written down. Large files are hard links to the outputs where the disk allows it, so they take their
space once. ``ROOT/history.jsonl`` says how long steps took.

Two locks protect an object: one while it is made, so that no two processes compute the same, and one while its folder
is written, read or deleted.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Set
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path

from loratools.errors import HeldError
from loratools.files import locked, replacing_folder, write_text
from loratools.recipe.record import Record, intact, read_record

DEFAULT_LIMIT = 20 * 2**30
_DIGITS = 32
_LINKED = 64 * 2**20  # bytes; smaller files are copied, so that damage to an output cannot reach the cache
_ABANDONED = 3600  # seconds after which an unfinished write belongs to a process that was killed


@dataclass(frozen=True)
class Entry:
    """One object: ``size`` in all, and ``alone``, the bytes that deleting it would free; ``used`` is a time."""

    identity: str
    record: Record
    size: int
    alone: int
    used: float


@dataclass(frozen=True)
class Timing:
    """How long a step of a kind took for how many units, and its bytes on disk and in memory."""

    kind: str
    units: float | None
    seconds: float
    size: int
    memory: int


class Cache:
    """A cache folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._objects = root / "objects"

    def folder(self, identity: str) -> Path:
        """The folder of an object."""
        return self._objects / identity[:_DIGITS]

    def find(self, identity: str) -> Record | None:
        """The record of a finished object, its bytes not yet checked; None if there is none."""
        record = read_record(self.folder(identity) / "record.json")
        return record if record is not None and record.done else None

    def making(self, identity: str, on_wait: Callable[[], object] | None = None) -> AbstractContextManager[None]:
        """The lock to hold while an object is made; where another process makes the same one, it is waited for.

        Args:
            on_wait: called once if there is something to wait for.
        Raises:
            FileError: on entering, if the cache cannot be written.
        """
        return locked(self.folder(identity), wait=True, on_wait=on_wait)

    def put(self, identity: str, record: Record, out: Path) -> None:
        """Keep a copy of a finished result; one that is here already stays."""
        with self._storing(identity):
            if self.find(identity) is not None:
                return
            with replacing_folder(self.folder(identity)) as folder:
                _copy(out, folder / "result")
                write_text(folder / "record.json", record.json())

    def put_unfinished(self, identity: str, record: Record, out: Path) -> None:
        """Move unfinished work here, so that it can go on later; it is dropped if the finished result is here."""
        with self._storing(identity):
            if self.find(identity) is not None:
                remove_path(out)
                return
            with replacing_folder(self.folder(identity)) as folder:
                shutil.move(out, folder / "result")
                write_text(folder / "record.json", record.json())

    def restore(self, identity: str, out: Path) -> Record | None:
        """Put an object's result at ``out``, where nothing may be yet; unfinished work is moved out of the cache.

        Returns:
            Its record; None if there is no such object, ``out`` exists, or the object is damaged, which deletes it.
        """
        with self._storing(identity):
            folder = self.folder(identity)
            record = read_record(folder / "record.json")
            if record is None or not (folder / "result").exists() or out.exists():
                return None
            out.parent.mkdir(parents=True, exist_ok=True)
            if not record.done:
                shutil.move(folder / "result", out)
                self._delete(identity)
                return record
            return record if self._restored(identity, record, out) else None

    def _restored(self, identity: str, record: Record, out: Path) -> bool:
        """Copy a finished object to ``out`` and check every byte."""
        folder = self.folder(identity)
        part = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name[:60]}.", suffix=".part")) / "result"
        try:
            _copy(folder / "result", part)
            if not intact(record, part):
                self._delete(identity)
                return False
            try:
                part.rename(out)
            except OSError:
                if out.exists():  # another process, with a cache of its own, was faster
                    return False
                raise
        finally:
            shutil.rmtree(part.parent, ignore_errors=True)
        os.utime(folder / "record.json")
        return True

    def entries(self) -> list[Entry]:
        """All objects, the least recently used first."""
        entries = (_entry(folder) for folder in self._objects.glob("*/"))
        return sorted((entry for entry in entries if entry is not None), key=lambda entry: entry.used)

    def gc(self, limit: int, keep: Set[str] = frozenset(), *, dry_run: bool = False) -> list[Entry]:
        """Delete the least recently used objects until what lies here alone is within ``limit`` bytes; those that a
        process makes or reads at this moment stay.

        Args:
            keep: identities that stay.
        Returns:
            What was deleted, or would be.
        """
        entries = self.entries()
        total, kept = sum(entry.alone for entry in entries), {identity[:_DIGITS] for identity in keep}
        removed = []
        for entry in entries:
            if total <= limit:
                break
            if entry.identity in kept or (entry.alone == 0 and limit > 0):
                continue
            if dry_run or self._dropped(entry):
                total -= entry.alone
                removed.append(entry)
        if not dry_run:
            self._sweep()
        return removed

    def _sweep(self) -> None:
        """Delete what killed processes left half-written."""
        for leftover in self._objects.glob(".*.part"):
            with contextlib.suppress(OSError):  # another process deletes it at this moment
                if time.time() - leftover.stat().st_mtime > _ABANDONED:
                    shutil.rmtree(leftover, ignore_errors=True)

    def _dropped(self, entry: Entry) -> bool:
        """Delete an object that nobody holds and nobody has used since it was listed."""
        try:
            with locked(self.folder(entry.identity)), locked(self._store_lock(entry.identity)):
                used = (self.folder(entry.identity) / "record.json").stat().st_mtime
                if used == entry.used:
                    self._delete(entry.identity)
                return used == entry.used
        except (HeldError, FileNotFoundError):
            return False

    def add_timing(self, record: Record) -> None:
        """Note how long a step of this kind took, for estimates."""
        timing = Timing(record.kind, record.units, record.seconds, record.size, record.memory)
        self.root.mkdir(parents=True, exist_ok=True)
        with open(self.root / "history.jsonl", "a", encoding="utf-8") as stream:
            stream.write(json.dumps(asdict(timing)) + "\n")

    def history(self, kind: str) -> list[Timing]:
        """The timings of steps of one kind, oldest first."""
        try:
            lines = (self.root / "history.jsonl").read_text(encoding="utf-8").splitlines()
        except OSError:
            return []
        timings = []
        for line in lines:
            with contextlib.suppress(ValueError, TypeError):  # a line that a kill cut short
                timings.append(Timing(**json.loads(line)))
        return [timing for timing in timings if timing.kind == kind]

    def _storing(self, identity: str) -> AbstractContextManager[None]:
        """The lock to hold while an object's folder is written, read or deleted."""
        return locked(self._store_lock(identity), wait=True)

    def _store_lock(self, identity: str) -> Path:
        return self._objects / f"{identity[:_DIGITS]}.store"

    def _delete(self, identity: str) -> None:
        shutil.rmtree(self.folder(identity), ignore_errors=True)


def remove_path(path: Path) -> None:
    """Delete a file, or a folder with all that is in it."""
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def _entry(folder: Path) -> Entry | None:
    """The object in ``folder``; None if it is no object, or another process deletes it at this moment."""
    record = read_record(folder / "record.json")
    if record is None:
        return None
    try:
        stats = [path.stat() for path in folder.rglob("*") if path.is_file()]
        used = (folder / "record.json").stat().st_mtime
    except FileNotFoundError:
        return None
    alone = sum(stat.st_size for stat in stats if stat.st_nlink == 1)
    return Entry(folder.name, record, sum(stat.st_size for stat in stats), alone, used)


def _copy(source: Path, target: Path) -> None:
    if source.is_file():
        _copy_file(source, target)
        return
    shutil.copytree(source, target, copy_function=_copy_file)


def _copy_file(source: str | Path, target: str | Path) -> None:
    if Path(source).stat().st_size >= _LINKED:
        with contextlib.suppress(OSError):  # another disk, or one without links
            os.link(source, target)
            return
    shutil.copyfile(source, target)
