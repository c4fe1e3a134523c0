"""Starting jobs, waiting for them and ending them: what the one process does that everything begins with."""

from __future__ import annotations

import contextlib
import itertools
import secrets
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loratools.errors import LaunchError, LoratoolsError
from loratools.files import locked
from loratools.launch.job import Job, JobFolder
from loratools.launch.launcher import Launcher
from loratools.launch.workers import Workers, end_children, signal_children, start_child

_STDERR = 2
_STEPS = ((signal.SIGINT, 40.0), (signal.SIGTERM, 5.0))  # how a job is asked to stop, and how long each may take


@dataclass(frozen=True)
class JobResult:
    """What the first process returned, and what went wrong in others, which did not keep the job from being done."""

    value: Any
    failed: tuple[str, ...] = ()


class Jobs:
    """The jobs that this process starts; made by :func:`running`.

    On this machine the processes of a job stay for the next one in the same places, so that only the first one pays for
    starting them; they end where one in some of these places needs others, which need the memory of their devices. A
    launcher's command starts its processes anew for each job.

    Methods may be called from several threads at once, for jobs that have no place in common.
    """

    def __init__(self, root: Path, launcher: Launcher) -> None:
        self.launcher = launcher
        self._root, self._numbers = root, itertools.count(1)
        self._workers: dict[tuple[int, ...], Workers] = {}  # by their places
        self._children: set[subprocess.Popen[bytes]] = set()  # of jobs that have processes for themselves alone
        self._guard = threading.Lock()
        self._ending = False

    @property
    def lock(self) -> Path:
        """What the jobs' processes watch: it is locked as long as this process runs."""
        return self._root / "started-by"

    def run(
        self,
        target: str,
        arguments: Mapping[str, Any],
        slots: Sequence[int],
        *,
        finish_alone: bool = False,
        prints: bool = False,
    ) -> JobResult:
        """Call ``target`` (see :class:`~loratools.launch.job.Job`) in a process for each of ``slots``, to the end.

        Args:
            finish_alone: where another process than the first failed or died, run the job again in one process on this
                machine, which goes on from what is done.
            prints: what the processes print on stdout belongs there; it goes to stderr otherwise.
        Raises:
            LoratoolsError: of the process that failed first.
            KeyboardInterrupt: if one was asked to stop.
        """
        job = Job(target, arguments, str(Path.cwd()), str(self.lock))
        if prints or self.launcher.command:
            folder, code = self._run_apart(job, slots, None if prints else _STDERR)
        else:
            folder, code = self._run_in(job, tuple(slots))
        try:
            return JobResult(folder.result(code), tuple(str(failure.error()) for failure in folder.failures()))
        except LoratoolsError as error:
            several = len(slots) > 1 or bool(self.launcher.command)
            if self._ending or not (finish_alone and several and folder.others_could_finish()):
                raise
            failed = str(folder.error(code) or error)
            folder, code = self._run_apart(job, slots[:1], None if prints else _STDERR, alone=True)
            return JobResult(folder.result(code), (failed,))

    def prepare(self, warm_up: str, groups: Sequence[Sequence[int]]) -> None:
        """Have processes ready in each of ``groups`` of places, for jobs to come.

        Nothing is done where they are there, or a launcher's command starts them, which may not do so ahead of time.

        Args:
            warm_up: ``package.module:function`` of ours, which imports what the jobs will need.
        """
        if self.launcher.command:
            return
        for slots in map(tuple, groups):
            with contextlib.suppress(LaunchError), self._guard:  # the job itself will say so
                if slots not in self._workers or not (self._workers[slots].busy or self._workers[slots].alive):
                    self._start_workers(slots, warm_up)

    def _run_in(self, job: Job, slots: tuple[int, ...]) -> tuple[JobFolder, int]:
        """Run a job in the processes that wait in its places, or in new ones; its folder and the exit code."""
        self._make_room(slots, keep=slots)
        while True:
            with self._guard:
                waiting = self._workers.get(slots)
                fresh = waiting is None or not waiting.alive
                workers = self._start_workers(slots) if waiting is None or fresh else waiting
                workers.busy = True
            try:
                folder, code = workers.run(job)
            finally:
                with self._guard:
                    workers.busy = False
                    if not workers.alive and self._workers.get(slots) is workers:
                        del self._workers[slots]
            if fresh or folder.begun() or self._ending:
                return folder, code

    def _run_apart(
        self, job: Job, slots: Sequence[int], stdout: int | None, *, alone: bool = False
    ) -> tuple[JobFolder, int]:
        """Run a job in processes that are for it alone; its folder and the launcher's exit code."""
        self._make_room(slots)
        folder = JobFolder(self._new_folder())
        folder.write(job)
        with self._guard:
            child = self._start([str(folder.path)], slots, stdout, alone=alone)
            self._children.add(child)
        code = child.wait()
        with self._guard:
            self._children.discard(child)
        return folder, code

    def _start_workers(self, slots: tuple[int, ...], *warm_up: str) -> Workers:
        """Start processes that take one job after another; the guard has to be held."""
        folder = self._new_folder()
        child = self._start([str(folder), str(self.lock), *warm_up], slots, _STDERR)
        self._workers[slots] = Workers(folder, child, len(slots))
        return self._workers[slots]

    def _make_room(self, slots: Sequence[int], keep: Sequence[int] = ()) -> None:
        """End processes that wait in some of ``slots`` and have had a job, which left things in their devices' memory.

        Args:
            keep: the places of those that stay.
        """
        with self._guard:
            waiting = [own for own, workers in self._workers.items() if workers.used and not workers.busy]
            ended = [self._workers.pop(own) for own in waiting if own != tuple(keep) and set(own) & set(slots)]
        for workers in ended:
            workers.end()

    def _new_folder(self) -> Path:
        return self._root / str(next(self._numbers))

    def _start(
        self, worker: Sequence[str], slots: Sequence[int], stdout: int | None, *, alone: bool = False
    ) -> subprocess.Popen[bytes]:
        """Start ``loratools.launch.worker`` with these arguments; the guard has to be held."""
        if self._ending:
            raise LaunchError("the run is being stopped")
        words = self.launcher.words(["loratools.launch.worker", *worker], slots, alone=alone)
        return start_child(words, self.launcher.environment(slots, alone=alone), stdout)

    def end(self) -> None:
        """Ask all jobs to stop, then make them."""
        with self._guard:
            self._ending = True
            workers = list(self._workers.values())
            children = [*self._children, *(own.child for own in workers)]
        signal_children([own.child for own in workers if not own.busy], signal.SIGTERM)  # they have nothing to save
        end_children(children, _STEPS)


@contextlib.contextmanager
def running(root: Path, launcher: Launcher) -> Iterator[Jobs]:
    """While entered, jobs can be run whose files are below ``root``; all have ended when it is left.

    Args:
        root: a folder for this alone, which is on a disk that all machines of the launcher share.
    """
    folder = root / secrets.token_hex(4)
    jobs = Jobs(folder.absolute(), launcher)
    try:
        with locked(jobs.lock):
            try:
                yield jobs
            finally:
                jobs.end()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):  # another process' jobs are there
            root.rmdir()
