"""The cache: finished results by what made them, shared by runs and processes, checked by digest, limited in size.

``ROOT/objects/ID`` holds ``record.json`` and ``result``, a file or folder. ID is a hash of everything that determines
the bytes, so an object never changes; it appears whole by a rename, and is taken back only if every byte still has
the digest that was written down. Large files are hard links to the outputs where the disk allows it, so they take their
space once. ``ROOT/history.jsonl`` tells how long steps took.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Set
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from loratools.errors import HeldError
from loratools.files import locked, sha256, write_text

DEFAULT_LIMIT = 20 * 2**30
_DIGITS = 32
_LINKED = 64 * 2**20  # bytes; smaller files are copied, so that damage to an output cannot reach the cache
_POLL = 0.2


@dataclass(frozen=True)
class Record:
    """What is known of one step. ``files`` (path below ``out``, or "" for ``out`` itself, -> sha256) is empty until it
    is ``done``; a record that is not done belongs to a step that was interrupted, whose work can go on.

    ``out`` is its place from the work folder; ``options`` and ``sources`` are what the key was made of, so that a later
    change can be named.
    """

    key: str
    out: str
    done: bool = False
    files: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    summary: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    name: str = ""
    kind: str = ""
    revision: int = 0
    version: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    sources: list[dict[str, Any]] = field(default_factory=list)
    units: float | None = None
    size: int = 0
    memory: int = 0

    def json(self) -> str:
        """As it is written down."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False)


@dataclass(frozen=True)
class Entry:
    """One object: ``size`` in all, and ``alone``, what removing it would free; ``used`` is a time."""

    identity: str
    record: Record
    size: int
    alone: int
    used: float


class Cache:
    """A cache folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._objects = root / "objects"

    def place(self, identity: str) -> Path:
        """Where an object lies."""
        return self._objects / identity[:_DIGITS]

    def holds(self, identity: str) -> Record | None:
        """The record of a whole object, its bytes not yet checked."""
        record = read_record(self.place(identity) / "record.json")
        return record if record is not None and record.done else None

    @contextlib.contextmanager
    def making(self, identity: str, waits: Callable[[], object] | None = None) -> Iterator[None]:
        """Hold an object while it is made; where another process makes the very same, wait for it.

        Args:
            waits: called once if there is something to wait for.
        Raises:
            FileError: if the cache cannot be written.
        """
        with contextlib.ExitStack() as held:
            while True:
                try:
                    held.enter_context(locked(self.place(identity)))
                    break
                except HeldError:
                    if waits is not None:
                        waits()
                    waits = None
                    time.sleep(_POLL)
            yield

    def put(self, identity: str, record: Record, out: Path) -> None:
        """Keep a finished result; one that is there already stays."""
        if self.holds(identity) is not None:
            return
        with self._arriving(identity) as folder:
            _copy(out, folder / "result")
            write_text(folder / "record.json", record.json())

    def set_aside(self, identity: str, record: Record, out: Path) -> None:
        """Move unfinished work here, so that it can go on later."""
        with self._arriving(identity) as folder:
            shutil.move(out, folder / "result")
            write_text(folder / "record.json", record.json())

    def bring(self, identity: str, out: Path) -> Record | None:
        """Put an object's result at ``out``, where nothing may be yet; None if there is none, or it is damaged (and
        then removed). Unfinished work is moved out of the cache."""
        place = self.place(identity)
        record = read_record(place / "record.json")
        if record is None or not (place / "result").exists() or out.exists():
            return None
        out.parent.mkdir(parents=True, exist_ok=True)
        if not record.done:
            shutil.move(place / "result", out)
            self.remove(identity)
            return record
        part = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name[:60]}.")) / "result"
        try:
            _copy(place / "result", part)
            if not intact(record, part):
                self.remove(identity)
                return None
            os.replace(part, out)
        finally:
            shutil.rmtree(part.parent, ignore_errors=True)
        os.utime(place / "record.json")
        return record

    def remove(self, identity: str) -> None:
        """Drop an object."""
        shutil.rmtree(self.place(identity), ignore_errors=True)

    def entries(self) -> list[Entry]:
        """All objects, the least recently used first."""
        found = []
        for folder in self._objects.glob("*/"):
            record = read_record(folder / "record.json")
            if record is None:
                continue
            stats = [path.stat() for path in folder.rglob("*") if path.is_file()]
            alone = sum(one.st_size for one in stats if one.st_nlink == 1)
            used = (folder / "record.json").stat().st_mtime
            found.append(Entry(folder.name, record, sum(one.st_size for one in stats), alone, used))
        return sorted(found, key=lambda entry: entry.used)

    def gc(self, limit: int, keep: Set[str] = frozenset(), *, dry_run: bool = False) -> list[Entry]:
        """Remove the least recently used objects until what lies here alone is within ``limit`` bytes; those that a
        process makes or takes at this moment stay.

        Args:
            keep: identities that stay.
        Returns:
            What was removed, or would be.
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
            for left in self.root.glob("arriving-*"):
                if time.time() - left.stat().st_mtime > 3600:  # of a process that was killed
                    shutil.rmtree(left, ignore_errors=True)
        return removed

    def _dropped(self, entry: Entry) -> bool:
        """Remove an object that nobody holds and nobody has used since it was looked at."""
        try:
            with locked(self.place(entry.identity)):
                used = (self.place(entry.identity) / "record.json").stat().st_mtime
                if used == entry.used:
                    self.remove(entry.identity)
                return used == entry.used
        except (HeldError, FileNotFoundError):
            return False

    def note(self, record: Record) -> None:
        """Remember how long a step of this kind took, for estimates."""
        fact = {
            "kind": record.kind,
            "units": record.units,
            "seconds": record.seconds,
            "size": record.size,
            "memory": record.memory,
        }
        self.root.mkdir(parents=True, exist_ok=True)
        with open(self.root / "history.jsonl", "a", encoding="utf-8") as stream:
            stream.write(json.dumps(fact) + "\n")

    def history(self, kind: str) -> list[dict[str, Any]]:
        """What was noted of steps of one kind, oldest first."""
        try:
            lines = (self.root / "history.jsonl").read_text(encoding="utf-8").splitlines()
        except OSError:
            return []
        found = []
        for line in lines:
            with contextlib.suppress(ValueError):  # a line that a kill cut short
                fact = json.loads(line)
                if isinstance(fact, dict) and fact.get("kind") == kind:
                    found.append(fact)
        return found

    @contextlib.contextmanager
    def _arriving(self, identity: str) -> Iterator[Path]:
        self._objects.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=self.root, prefix="arriving-"))
        try:
            yield folder
            self.remove(identity)
            os.replace(folder, self.place(identity))
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def read_record(path: Path) -> Record | None:
    """The record at ``path``; None if there is none, or it is not ours."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        return Record(**told)
    except (OSError, ValueError, TypeError):
        return None


def intact(record: Record, out: Path) -> bool:
    """Whether every file of a finished step is there at ``out``, byte for byte."""
    try:
        return all(sha256(out / name if name else out) == digest for name, digest in record.files.items())
    except OSError:
        return False


def digests(out: Path) -> dict[str, str]:
    """sha256 of every file of a result; hidden ones do not count."""
    if out.is_file():
        return {"": sha256(out)}
    found = sorted(path for path in out.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {path.relative_to(out).as_posix(): sha256(path) for path in found}


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
