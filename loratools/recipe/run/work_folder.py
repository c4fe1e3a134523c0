"""What a work folder remembers of each step: its key, its files with their digests, and what the key was made of.

``WORK/.loratools/steps/NAME.json`` is the memory; finished results are also kept in the cache, so that they come back
when the recipe is edited back.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from glob import escape
from pathlib import Path

from loratools import __version__
from loratools.files import locked, sweep, write_text
from loratools.recipe.plan.step import Outcome, Planned
from loratools.recipe.run.cache import Cache, Record, digests, intact, read_record


class Store:
    """The memory of one work folder.

    Args:
        cache: where finished results are kept; beside the memory by default.
    """

    def __init__(self, work: Path, cache: Path | None = None) -> None:
        self.work = work
        self.memory = work / ".loratools"
        self.cache = Cache(cache or self.memory)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep other runs out of the work folder meanwhile, and clear away what a kill left half-written of the memory.

        Raises:
            FileError: if another run holds it.
        """
        with locked(self.memory / "run"):
            sweep(self.memory / "steps" / "*")
            yield

    def record(self, name: str) -> Record | None:
        """What is known of the step ``name``."""
        return read_record(self.memory / "steps" / f"{name}.json")

    def stands(self, record: Record, planned: Planned) -> bool:
        """Whether ``record`` is of a result at the very place where ``planned`` puts its own."""
        return record.out == self._place(planned.out)

    def fresh(self, planned: Planned) -> Record | None:
        """The record of ``planned`` if its result is there and every byte of it is still what was written."""
        record = self.record(planned.name)
        if record is None or record.key != planned.key or not record.done or not self.stands(record, planned):
            return None
        return record if intact(record, planned.out) else None

    def begin(self, planned: Planned) -> bool:
        """Make room for a step's result and note that it is being made.

        Its result of another key goes to the cache (or stays, where the step works in place); a kept one of this key,
        whole or half done, comes back.

        Returns:
            Whether unfinished work of the same key is there to go on from.
        """
        if self._is_inside(planned.out):
            sweep(planned.out.with_name(escape(planned.out.name)))
        record = self.record(planned.name)
        if record is not None and not self.stands(record, planned):
            record = None  # it is told to write elsewhere now; what is there stays
        if record is not None and record.key != planned.key and not planned.draft.in_place:
            self._clear(planned, record)
        if record is None or record.key != planned.key or not planned.out.exists():
            record = self._bring_back(planned)
        whole = record is not None and record.done and intact(record, planned.out)
        goes_on = record is not None and not record.done
        if not whole and not goes_on:
            self._write(self._new(planned))
        return goes_on

    def keeps(self, planned: Planned) -> bool:
        """Whether a whole result of this key is in the cache."""
        return self.cache.holds(planned.identity) is not None

    def finish(self, planned: Planned, outcome: Outcome, seconds: float, memory: int = 0) -> Record:
        """Note that a step's result is complete, and keep it."""
        found = digests(planned.out)
        size = sum((planned.out / name if name else planned.out).stat().st_size for name in found)
        record = replace(
            self._new(planned),
            done=True,
            files=found,
            seconds=round(seconds, 3),
            summary=outcome.summary,
            facts=json.loads(json.dumps(dict(outcome.facts), default=str)),
            size=size,
            memory=memory,
        )
        self._write(record)
        self.cache.put(planned.identity, record, planned.out)
        self.cache.note(record)
        return record

    def _new(self, planned: Planned) -> Record:
        draft = planned.draft
        sources = [{"label": s.label, "digest": s.digest, "step": s.step} for s in draft.inputs]
        return Record(
            planned.key,
            self._place(planned.out),
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

    def _place(self, out: Path) -> str:
        """``out`` from the work folder, however that is named and from wherever it is used."""
        return Path(os.path.relpath(out.absolute(), self.work.absolute())).as_posix()

    def _write(self, record: Record) -> None:
        write_text(self.memory / "steps" / f"{record.name}.json", record.json())

    def _clear(self, planned: Planned, record: Record) -> None:
        """Take the step's own result of another key away: it is in the cache, or goes there. Anything that is not as
        the step wrote it stays, and the step itself will refuse to overwrite it."""
        out = planned.out
        if not out.exists() or not self._is_inside(out):
            return  # outside the work folder nothing is moved; the step itself replaces what it wrote
        old = replace(planned, key=record.key).identity
        if not record.done:
            self.cache.set_aside(old, record, out)
        elif intact(record, out):
            self.cache.put(old, record, out)
            shutil.rmtree(out) if out.is_dir() else out.unlink()

    def _bring_back(self, planned: Planned) -> Record | None:
        record = self.cache.bring(planned.identity, planned.out)
        if record is None:
            return None
        record = replace(record, out=self._place(planned.out), name=planned.name)
        self._write(record)
        return record


def shown(path: Path) -> str:
    """A path as short as it can be said from the current folder."""
    with contextlib.suppress(ValueError, OSError):
        relative = os.path.relpath(path)
        return relative if not relative.startswith("..") else str(path)
    return str(path)
