"""What the parts of one running server share; ``request.app.state.studio`` of every handler."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from loratools.studio.api.jobs import Job
from loratools.studio.discover.index import Index
from loratools.studio.events import Events
from loratools.studio.jobs.commands import command_text
from loratools.studio.jobs.job_queue import JobQueue
from loratools.studio.jobs.record import JobRecord
from loratools.studio.measuring.client import Measurer
from loratools.studio.measuring.norms import Norms
from loratools.studio.roots import STATE, Roots
from loratools.studio.token import Secrets


@dataclass(frozen=True)
class Options:
    """How the server was started.

    Attributes:
        demo: whether the page offers the demo's tour.
        fake_engine: pictures are made up in 5 ms, for tests of the page.
        device: ``auto``, ``cpu``, ``cuda:1`` ...; that of live pictures and of jobs.
    """

    demo: bool = False
    fake_engine: bool = False
    device: str = "auto"


@dataclass(frozen=True)
class Studio:
    """One running server."""

    port: int
    secrets: Secrets
    roots: Roots
    options: Options = Options()
    events: Events = field(default_factory=Events)

    @cached_property
    def index(self) -> Index:
        """What lies below the roots."""
        return Index(self.roots, self.events)

    @cached_property
    def measurer(self) -> Measurer:
        """Computes norms of stacks."""
        return Measurer()

    @cached_property
    def norms(self) -> Norms:
        """Where the norm of each file lies."""
        return Norms(self.state_folder / "norms.json", self.measurer, self._tell_norms)

    def _tell_norms(self, path: Path) -> None:
        if self.roots.root_of(path) is not None:
            self.events.add("norms", {"ids": [self.roots.id_of(path)]})

    @cached_property
    def queue(self) -> JobQueue:
        """The jobs."""
        return JobQueue(self.state_folder, self._tell)

    def job(self, record: JobRecord) -> Job:
        """A job as the page sees it."""
        position = self.queue.place(record)
        command = command_text(record.argv, Path(record.cwd))
        return record.job(command, self.queue.progress(record.id), self._results(record), position)

    def _results(self, record: JobRecord) -> list[str]:
        """The ids of what a job wrote, as far as it is there."""
        paths = [Path(path) for path in record.results]
        ids = [self.roots.id_of(path) for path in paths if path.exists() and self.roots.root_of(path) is not None]
        run = Path(record.run) if record.run else None
        return [*ids, *([self.roots.id_of(run, "run")] if run and self.roots.root_of(run) is not None else [])]

    def _tell(self, kind: str, record: JobRecord) -> None:
        """An event for what happened to a job."""
        if kind == "log":
            self.events.add("log", {"job": record.id, "last": self.queue.lines(record.id)})
            return
        known = self.queue.is_known(record.id)
        data = self.job(record).model_dump(mode="json") if known else {"id": record.id, "removed": True}
        self.events.add("job", data)
        if record.state == "done":
            self.index.look_soon()

    @property
    def state_folder(self) -> Path:
        """Where the queue and the logs of jobs are kept: hidden in the first root."""
        return self.roots.roots[0].path / STATE
