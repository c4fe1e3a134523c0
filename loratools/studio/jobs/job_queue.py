"""The queue: which job runs next, what became of those that run, and what a person asks of them.

One heavy job at a time on the device, and a few light ones beside it. A job that fails leaves the others to go on. A
server that starts again finds the jobs that run by their locks, and goes on watching them.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from loratools.errors import FileError
from loratools.files import sha256
from loratools.studio.api.jobs import JobLog, Progress
from loratools.studio.api.models import JobAction, JobState
from loratools.studio.api.words import english, problem
from loratools.studio.jobs.commands import HERE, Command
from loratools.studio.jobs.job_folder import FrozenCommand, JobFolder, progress_of
from loratools.studio.jobs.job_log import LogReader
from loratools.studio.jobs.questions import waits_for_answers
from loratools.studio.jobs.record import ACTIVE, JobRecord
from loratools.studio.jobs.spawn import spawn
from loratools.studio.jobs.store import JobStore

_GONE = "job.gone"
_LOOK = 0.3  # seconds between two looks at the jobs that run
_LIGHT = 2  # light jobs at once
_GRACE = 60.0  # seconds in which a process that another server started has to say that it has begun
_ASKED = (0, 1)  # of a search that waits for a person's answers: with a result so far, and without one
_INTERRUPTED = (130, 143)  # exit codes of a command that was interrupted
_LOG = logging.getLogger(__name__)
OnChange = Callable[[str, JobRecord], object]
"""Called with ``job`` or ``log`` and the job."""


class JobQueue:
    """The jobs of one server.

    Args:
        folder: the studio's hidden folder.
        on_change: called from the queue's thread.
    """

    def __init__(self, folder: Path, on_change: OnChange) -> None:
        self._folder = folder / "jobs"
        self._store = JobStore(self._folder / "queue.sqlite")
        self._on_change = on_change
        self._guard = threading.RLock()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._logs: dict[str, LogReader] = {}
        self._seen: dict[str, Progress] = {}
        self._ended = threading.Event()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Watch and start jobs on a thread, until :meth:`close`."""
        self._thread = threading.Thread(target=self._watch, name="studio-jobs", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread; jobs that run go on."""
        self._ended.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(5)
        self._store.close()

    def jobs(self) -> list[JobRecord]:
        """Every job, in the queue's order."""
        return self._store.all()

    def job(self, job_id: str) -> JobRecord:
        """A job.

        Raises:
            StudioError: if there is none.
        """
        record = self._store.get(job_id)
        if record is None:
            raise problem("job.unknown", status=404)
        return record

    def place(self, record: JobRecord) -> int:
        """Its place among the jobs that wait, from 1; 0 if it does not wait."""
        return self._store.place(record)

    def is_known(self, job_id: str) -> bool:
        """Whether there is such a job, and it was not removed."""
        return self._store.get(job_id) is not None

    def progress(self, job_id: str) -> Progress:
        """How far a job is."""
        return progress_of(self._job_folder(job_id).progress)

    def log(self, job_id: str, after: int) -> JobLog:
        """Lines of a job's log."""
        return self._reader(self.job(job_id).id).after(after)

    def lines(self, job_id: str) -> int:
        """How many lines a job's log has."""
        return self._reader(job_id).count

    def add(self, command: Command) -> JobRecord:
        """Put a command at the end of the queue; what it runs is frozen now.

        Raises:
            FileError: on a full disk.
        """
        with self._guard:
            record = JobRecord(
                id=uuid.uuid4().hex[:16],
                kind=command.kind,
                title=command.title,
                argv=command.argv,
                go_on=command.go_on,
                cwd=str(command.cwd),
                step=command.step,
                heavy=command.heavy,
                state="waiting",
                position=self._store.last_position() + 1,
                created=time.time(),
                results=tuple(map(str, command.results)),
                run=str(command.run or ""),
                stop_file=str(command.stop_file or ""),
                recipe=str(command.recipe or ""),
                recipe_digest=sha256(command.recipe) if command.recipe else "",
            )
            folder = self._job_folder(record.id)
            folder.path.mkdir(parents=True, exist_ok=True)
            for name, content in command.files.items():
                (folder.path / name).write_bytes(content)
            if command.recipe:
                (folder.path / command.recipe.name).write_bytes(command.recipe.read_bytes())
            record = replace(record, argv=tuple(own.replace(HERE, str(folder.path)) for own in record.argv))
            self._put(record)
        self._wake.set()
        return record

    def do(self, job_id: str, action: JobAction) -> JobRecord:
        """What a person asks of a job.

        Raises:
            StudioError: if the job is not in a state for it.
        """
        with self._guard:
            record = self.job(job_id)
            if action not in record.actions():
                raise problem("job.cannot", status=409)
            record = self._done(record, action)
        self._wake.set()
        return record

    def job_of_run(self, place: Path) -> str | None:
        """The job that trains the run ``OUT/NAME`` now."""
        training = (own for own in self._store.open() if own.stop_file and own.state in ACTIVE)
        return next((own.id for own in training if own.run == str(place)), None)

    def look(self) -> None:
        """Take in what became of the jobs that run, and start those that may."""
        with self._guard:
            for record in self._store.open():
                if record.state in ACTIVE:
                    with _noted(record):
                        self._look_at(record)
            for record in self._next():
                self._start(record)

    def _watch(self) -> None:
        while not self._ended.is_set():
            try:
                self.look()
            except Exception:  # a thread that ends in silence would leave the queue standing
                _LOG.exception("while looking at the queue")
            self._wake.wait(_LOOK)
            self._wake.clear()

    def _next(self) -> Iterator[JobRecord]:
        """The jobs that may start now, in order."""
        records = self._store.open()
        running = [own for own in records if own.state in ACTIVE]
        heavy_free = not any(own.heavy for own in running)
        light_free = _LIGHT - sum(not own.heavy for own in running)
        busy = {result for own in running for result in own.results}
        for record in (own for own in records if own.state == "waiting"):
            if busy & set(record.results):
                continue
            if record.heavy and heavy_free:
                heavy_free = False
            elif not record.heavy and light_free:
                light_free -= 1
            else:
                continue
            busy |= set(record.results)
            yield record

    def _start(self, record: JobRecord) -> None:
        folder = self._job_folder(record.id)
        try:
            cwd = self._written(record, folder)
        except (OSError, FileError) as error:  # the folder was deleted, or the disk is full
            with _noted(record):
                self._end(
                    replace(record, error_key="job.unstarted"), "failed", getattr(error, "strerror", None) or str(error)
                )
            return
        begun = replace(record, state="running", started=time.time(), ended=None, error=None, error_key="")
        self._put(replace(begun, times=record.times + 1))
        try:
            self._processes[record.id] = spawn(folder, cwd)
        except OSError as error:
            unstarted = replace(self.job(record.id), error_key="job.unstarted")
            self._end(unstarted, "failed", error.strerror or str(error))

    def _written(self, record: JobRecord, folder: JobFolder) -> Path:
        """Write into its folder what a job runs; returns where it runs.

        Raises:
            OSError, FileError: if that cannot be done.
        """
        folder.clear()
        argv, cwd = self._frozen(record, folder)
        if record.times:
            argv = (*argv, *(own for own in record.go_on if own not in argv))
        folder.write(FrozenCommand(argv, str(cwd), record.stop_file))
        return cwd

    def _frozen(self, record: JobRecord, folder: JobFolder) -> tuple[tuple[str, ...], Path]:
        """What is run and where: a recipe that was edited since runs as it was, from its own folder."""
        recipe = Path(record.recipe) if record.recipe else None
        if recipe is None:
            return record.argv, Path(record.cwd)
        with contextlib.suppress(OSError):  # one that is gone runs as it was, too
            if sha256(recipe) == record.recipe_digest:
                return record.argv, Path(record.cwd)
        frozen = str(folder.path / recipe.name)
        with open(folder.log, "a", encoding="utf-8") as log:
            log.write(f"note: {recipe.name} was edited since the job was added; it runs as it was then ({frozen})\n")
        return tuple(frozen if own == record.recipe else own for own in record.argv), recipe.parent

    def _look_at(self, record: JobRecord) -> None:
        folder = self._job_folder(record.id)
        process = self._processes.get(record.id)
        exited = process is not None and process.poll() is not None
        end = folder.ended()
        if self._reader(record.id).refresh():
            self._on_change("log", record)
        if end is not None and (exited or not folder.is_alive):
            self._finish(record, end.code, end.error, end.ended)
        elif process is not None and not exited:  # its lock is not tried, which it may be about to take
            self._tell_progress(record, folder)
        elif folder.is_alive:  # of a server that was killed
            self._processes.pop(record.id, None)
            self._tell_progress(record, folder)
        elif folder.ended() is None:  # else it ended between the two looks
            self._lost(record, folder, None if process is None else process.returncode)

    def _lost(self, record: JobRecord, folder: JobFolder, code: int | None) -> None:
        """The process is gone and has not said how it ended; or it has not begun yet.

        Args:
            code: that it exited with; None for one that another server started.
        """
        if not folder.begun and code is None:
            if time.time() - (record.started or 0.0) > _GRACE:  # that server was killed before it could start it
                self._put(replace(record, state="waiting", times=max(0, record.times - 1)))
        elif record.state == "stopping":
            self._end(record, record.goal or "stopped", None)
        else:
            own = folder.last_error()
            self._end(replace(record, error_key="" if own else _GONE), "failed", own or english()[_GONE])

    def _finish(self, record: JobRecord, code: int, error: str, ended: float) -> None:
        if code in _ASKED and not error and any(waits_for_answers(Path(path)) for path in record.results):
            self._end(replace(record, asks=True), "paused", None, ended)
        elif code == 0:
            self._end(record, "done", None, ended)
        elif code in _INTERRUPTED:  # as it was asked to, or by somebody else
            self._end(record, record.goal or "stopped", None, ended)
        else:
            own = record if error else replace(record, error_key="job.code")
            self._end(own, "failed", error or str(code), ended)

    def _end(self, record: JobRecord, state: JobState, error: str | None, ended: float | None = None) -> None:
        self._processes.pop(record.id, None)
        self._seen.pop(record.id, None)
        self._put(replace(record, state=state, goal="", stops=0, error=error, ended=ended or time.time()))

    def _done(self, record: JobRecord, action: JobAction) -> JobRecord:
        match action:
            case "pause" | "stop" if record.state in ACTIVE:
                goal = record.goal if record.state == "stopping" else ("paused" if action == "pause" else "stopped")
                record = replace(record, state="stopping", goal=goal, stops=record.stops + 1)
                self._job_folder(record.id).ask(stop=record.stops, after_epoch=False)
            case "stop-after-epoch":
                record = replace(record, state="stopping", goal="stopped")
                self._job_folder(record.id).ask(stop=record.stops, after_epoch=True)
            case "pause":
                record = replace(record, state="paused")
            case "resume":
                record = replace(record, state="waiting", goal="", error=None, error_key="", ended=None, asks=False)
            case "up" | "down":
                record = self._moved(record, -1 if action == "up" else 1)
            case _:
                return self._removed(record)
        return self._put(record)

    def _moved(self, record: JobRecord, by: int) -> JobRecord:
        """The job in the place of the next one that waits before or after it."""
        waiting = [own for own in self._store.open() if own.state == "waiting"]
        place = [own.id for own in waiting].index(record.id) + by
        if not 0 <= place < len(waiting):
            return record
        other = waiting[place]
        self._put(replace(other, position=record.position))
        return replace(record, position=other.position)

    def _removed(self, record: JobRecord) -> JobRecord:
        """Forget a job that does not run, with its log; what it made stays."""
        self._store.remove(record.id)
        self._logs.pop(record.id, None)
        shutil.rmtree(self._job_folder(record.id).path, ignore_errors=True)
        self._on_change("job", record)
        return record

    def _tell_progress(self, record: JobRecord, folder: JobFolder) -> None:
        now = progress_of(folder.progress)
        if self._seen.get(record.id) != now:
            self._seen[record.id] = now
            self._on_change("job", record)

    def _put(self, record: JobRecord) -> JobRecord:
        self._store.put(record)
        self._on_change("job", record)
        return record

    def _job_folder(self, job_id: str) -> JobFolder:
        return JobFolder(self._folder / job_id)

    def _reader(self, job_id: str) -> LogReader:
        return self._logs.setdefault(job_id, LogReader(self._job_folder(job_id).log))


@contextlib.contextmanager
def _noted(record: JobRecord) -> Iterator[None]:
    """Write down what goes wrong with one job, so that the others are looked at."""
    try:
        yield
    except Exception:
        _LOG.exception("while looking at the job %s", record.id)
