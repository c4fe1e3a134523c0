"""A work folder's record of each step: its key, its files with their digests, and what the key was made of.

The records are ``WORK/.loratools/steps/NAME.json``; finished results are also kept in the cache, so that they come back
when the recipe is edited back.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from glob import escape
from pathlib import Path

from loratools.files import locked, sweep, write_text
from loratools.recipe.plan.step import Outcome, Planned
from loratools.recipe.record import ReadInput, Record, file_digests, intact, read_record
from loratools.recipe.run.cache import Cache, remove_path
from loratools.version import __version__


class WorkFolder:
    """One work folder: the records of its steps, and the cache of their results.

    Args:
        cache: where finished results are kept; in the work folder by default.
    """

    def __init__(self, work: Path, cache: Path | None = None) -> None:
        self.work = work
        self._state = work / ".loratools"
        self.cache = Cache(cache or self._state)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other runs out of the work folder, and delete records that a kill left half-written.

        Raises:
            FileError: if another run holds it.
        """
        with locked(self._state / "run"):
            sweep(self._state / "steps" / "*")
            yield

    def record(self, name: str) -> Record | None:
        """The record of the step ``name``, if it has ever begun."""
        return read_record(self._state / "steps" / f"{name}.json")

    def same_out(self, record: Record, planned: Planned) -> bool:
        """Whether the result of ``record`` lies where ``planned`` puts its own."""
        return record.out == self._relative(planned.out)

    def fresh(self, planned: Planned) -> Record | None:
        """The record of ``planned`` if its result is there and every byte of it is still what was written."""
        record = self.record(planned.name)
        if record is None or record.key != planned.key or not record.done or not self.same_out(record, planned):
            return None
        return record if intact(record, planned.out) else None

    def begin(self, planned: Planned) -> bool:
        """Make room for a step's result and record that it is being made.

        A result of another key moves to the cache (or stays, where the step works in place); one of this key that is
        kept there, finished or not, comes back.

        Returns:
            Whether unfinished work of the same key is there to resume.
        """
        if self._is_inside(planned.out):
            sweep(planned.out.with_name(escape(planned.out.name)))
        record = self.record(planned.name)
        if record is not None and not self.same_out(record, planned):
            record = None  # it writes elsewhere now; what is there stays
        if record is not None and record.key != planned.key and not planned.draft.in_place:
            self._clear(planned, record)
        if record is None or record.key != planned.key or not planned.out.exists():
            record = self._bring_back(planned)
        whole = record is not None and record.done and intact(record, planned.out)
        resumes = record is not None and not record.done
        if not whole and not resumes:
            self._write(self._new(planned))
        return resumes

    def in_cache(self, planned: Planned) -> bool:
        """Whether a finished result of this key is in the cache."""
        return self.cache.find(planned.identity) is not None

    def finish(self, planned: Planned, outcome: Outcome, seconds: float, memory: int = 0) -> Record:
        """Record that a step's result is complete, and keep it in the cache.

        Args:
            seconds: that the step took.
            memory: its peak, in bytes.
        """
        digests = file_digests(planned.out)
        size = sum((planned.out / name if name else planned.out).stat().st_size for name in digests)
        record = replace(
            self._new(planned),
            done=True,
            files=digests,
            seconds=round(seconds, 3),
            summary=outcome.summary,
            facts=json.loads(json.dumps(dict(outcome.facts), default=str)),
            size=size,
            memory=memory,
        )
        self._write(record)
        self.cache.put(planned.identity, record, planned.out)
        self.cache.add_timing(record)
        return record

    def _new(self, planned: Planned) -> Record:
        draft = planned.draft
        sources = tuple(ReadInput(source.label, source.digest, source.step) for source in draft.inputs)
        return Record(
            planned.key,
            self._relative(planned.out),
            name=planned.name,
            kind=planned.kind,
            revision=planned.revision,
            version=__version__,
            options=json.loads(json.dumps(draft.options)),
            sources=sources,
            units=draft.units,
        )

    def _is_inside(self, out: Path) -> bool:
        return out.resolve().is_relative_to(self.work.resolve())

    def _relative(self, out: Path) -> str:
        """``out`` as a path from the work folder, whatever the current folder is."""
        return Path(os.path.relpath(out.absolute(), self.work.absolute())).as_posix()

    def _write(self, record: Record) -> None:
        write_text(self._state / "steps" / f"{record.name}.json", record.json())

    def _clear(self, planned: Planned, record: Record) -> None:
        """Move the step's own result of another key to the cache, if it is not there yet.

        Anything that is not as the step wrote it stays, and the step itself will refuse to overwrite it.
        """
        out = planned.out
        if not out.exists() or not self._is_inside(out):
            return  # outside the work folder nothing is moved; the step itself replaces what it wrote
        old = replace(planned, key=record.key).identity
        if not record.done:
            self.cache.put_unfinished(old, record, out)
        elif intact(record, out):
            self.cache.put(old, record, out)
            remove_path(out)

    def _bring_back(self, planned: Planned) -> Record | None:
        record = self.cache.restore(planned.identity, planned.out)
        if record is None:
            return None
        record = replace(record, out=self._relative(planned.out), name=planned.name)
        self._write(record)
        return record


def short_path(path: Path) -> str:
    """``path`` from the current folder where it lies below that, else as it is."""
    with contextlib.suppress(ValueError, OSError):
        relative = os.path.relpath(path)
        return relative if not relative.startswith("..") else str(path)
    return str(path)
