"""What a work folder remembers of each step: its key, its files with their digests, and results set aside.

Everything lies under ``WORK/.loratools``: ``steps/NAME.json`` for each step, and ``kept/NAME-KEY`` for results that an
edit of the recipe replaced. Kept results come back when the recipe is edited back, and may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from loratools.files import locked, sha256, write_text
from loratools.recipe.plan import Outcome, Planned

_KEY_DIGITS = 16


@dataclass(frozen=True)
class Record:
    """What is known of one step. ``files`` (path below ``out``, or "" for ``out`` itself, -> sha256) is empty until it
    is ``done``; a record that is not done belongs to a step that was interrupted, whose work can go on."""

    key: str
    out: str
    done: bool = False
    files: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    summary: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


class Store:
    """The memory of one work folder."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.memory = work / ".loratools"

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep other runs out of the work folder meanwhile.

        Raises:
            FileError: if another run holds it.
        """
        with locked(self.memory / "run"):
            yield

    def record(self, name: str) -> Record | None:
        """What is known of the step ``name``."""
        return _read(self.memory / "steps" / f"{name}.json")

    def fresh(self, planned: Planned) -> Record | None:
        """The record of ``planned`` if its result is there and every byte of it is still what was written."""
        record = self.record(planned.name)
        if record is None or record.key != planned.key or not record.done or Path(record.out) != planned.out:
            return None
        return record if intact(record) else None

    def begin(self, planned: Planned) -> bool:
        """Make room for a step's result and note that it is being made.

        Its result of another key is set aside (or left, where the step works in place); a kept one of this key, whole
        or half done, comes back.

        Returns:
            Whether unfinished work of the same key is there to go on from.
        """
        record = self.record(planned.name)
        if record is not None and Path(record.out) != planned.out:
            record = None  # it is told to write elsewhere now; what is there stays
        if record is not None and record.key != planned.key:
            if not planned.draft.in_place:
                self._set_aside(planned.name, record)
            record = self._bring_back(planned)
        whole = record is not None and record.key == planned.key and record.done and intact(record)
        goes_on = record is not None and record.key == planned.key and not record.done
        if not whole and not goes_on:
            self._write(planned.name, Record(planned.key, str(planned.out)))
        return goes_on

    def keeps(self, planned: Planned) -> bool:
        """Whether a whole result of this key was set aside and can come back."""
        record = _read(self._kept(planned.name, planned.key) / "record.json")
        return record is not None and record.done

    def finish(self, planned: Planned, outcome: Outcome, seconds: float) -> Record:
        """Note that a step's result is complete."""
        record = Record(planned.key, str(planned.out), True, _digests(planned.out), round(seconds, 3), outcome.summary,
                        dict(outcome.facts))  # fmt: skip
        self._write(planned.name, record)
        return record

    def _write(self, name: str, record: Record) -> None:
        write_text(self.memory / "steps" / f"{name}.json", json.dumps(asdict(record), indent=1, ensure_ascii=False))

    def _kept(self, name: str, key: str) -> Path:
        return self.memory / "kept" / f"{name}-{key[:_KEY_DIGITS]}"

    def _set_aside(self, name: str, record: Record) -> None:
        out, place = Path(record.out), self._kept(name, record.key)
        if not out.exists() or not out.resolve().is_relative_to(self.work.resolve()):
            return  # outside the work folder nothing is moved; the step itself replaces what it wrote
        if place.exists():
            shutil.rmtree(place)  # an older copy of the same key
        write_text(place / "record.json", json.dumps(asdict(record), ensure_ascii=False))
        shutil.move(out, place / "result")

    def _bring_back(self, planned: Planned) -> Record | None:
        place = self._kept(planned.name, planned.key)
        record = _read(place / "record.json")
        if record is None or not (place / "result").exists() or planned.out.exists():
            return None
        record = Record(**{**asdict(record), "out": str(planned.out)})
        planned.out.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(place / "result", planned.out)
        self._write(planned.name, record)
        shutil.rmtree(place)
        return record


def intact(record: Record) -> bool:
    """Whether every file of a finished step is there, byte for byte."""
    out = Path(record.out)
    try:
        return all(sha256(out / name if name else out) == digest for name, digest in record.files.items())
    except OSError:
        return False


def _digests(out: Path) -> dict[str, str]:
    if out.is_file():
        return {"": sha256(out)}
    found = sorted(path for path in out.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {path.relative_to(out).as_posix(): sha256(path) for path in found}


def _read(path: Path) -> Record | None:
    try:
        return Record(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None  # none yet, or not ours: the step counts as never run


def shown(path: Path) -> str:
    """A path as short as it can be said from the current folder."""
    with contextlib.suppress(ValueError, OSError):
        relative = os.path.relpath(path)
        return relative if not relative.startswith("..") else str(path)
    return str(path)
