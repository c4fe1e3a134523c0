"""Starting jobs, waiting for them and ending them: what the one process does that everything begins with."""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loratools.errors import LaunchError, LoratoolsError
from loratools.files import locked
from loratools.launch.job import Job, JobFolder
from loratools.launch.launcher import Launcher

_STDERR = 2
_STEPS = ((signal.SIGINT, 40.0), (signal.SIGTERM, 5.0))  # how a job is asked to stop, and how long each may take
_POLL = 0.05  # seconds between two looks at a process


@dataclass(frozen=True)
class JobResult:
    """What the first process returned, and what went wrong in others, which did not keep the job from being done."""

    value: Any
    failed: tuple[str, ...] = ()


class Jobs:
    """The jobs that this process starts; made by :func:`running`.

    Its methods may be called from several threads at once.
    """

    def __init__(self, root: Path, launcher: Launcher) -> None:
        self.launcher = launcher
        self._root, self._numbers = root, itertools.count(1)
        self._children: set[subprocess.Popen[bytes]] = set()
        self._prepared: dict[tuple[int, ...], tuple[JobFolder, subprocess.Popen[bytes]]] = {}
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
        """
        job = Job(target, arguments, str(Path.cwd()), str(self.lock))
        stdout = None if prints else _STDERR
        folder, code = self._launch(job, slots, stdout)
        try:
            return JobResult(folder.result(code), tuple(str(failure.error()) for failure in folder.failures()))
        except LoratoolsError as error:
            several = len(slots) > 1 or bool(self.launcher.command)
            if self._ending or not (finish_alone and several and folder.others_could_finish()):
                raise
            failed = str(folder.error(code) or error)
            folder, code = self._launch(job, slots[:1], stdout, alone=True)
            return JobResult(folder.result(code), (failed,))

    def _launch(
        self, job: Job, slots: Sequence[int], stdout: int | None, *, alone: bool = False
    ) -> tuple[JobFolder, int]:
        """Run the job's processes to their end; the folder and the launcher's exit code."""
        with self._guard:
            ready = None if alone or stdout != _STDERR else self._prepared.pop(tuple(slots), None)
        if ready is not None and ready[1].poll() is None:
            folder, child = ready
            folder.write(job)
        else:
            folder = self._new_folder()
            folder.write(job)
            child = self._start([str(folder.path)], slots, stdout, alone=alone)
        code = child.wait()
        with self._guard:
            self._children.discard(child)
        return folder, code

    def prepare(self, warm_up: str, slots: Sequence[int]) -> None:
        """Start the processes of a job to come in ``slots``, so that they are ready when it is there.

        Nothing is done where such are waiting already, or a launcher's command starts them, which may not do so twice.

        Args:
            warm_up: ``package.module:function`` of ours, which imports what the job will need.
        """
        with self._guard:
            if self.launcher.command or tuple(slots) in self._prepared or self._ending:
                return
        folder = self._new_folder()
        folder.path.mkdir(parents=True)
        with contextlib.suppress(LaunchError):  # the job itself will say so
            child = self._start([str(folder.path), str(self.lock), warm_up], slots, _STDERR)
            with self._guard:
                self._prepared[tuple(slots)] = folder, child

    def _new_folder(self) -> JobFolder:
        return JobFolder(self._root / str(next(self._numbers)))

    def _start(
        self, worker: Sequence[str], slots: Sequence[int], stdout: int | None, *, alone: bool = False
    ) -> subprocess.Popen[bytes]:
        """Start the processes that run ``loratools.launch.worker`` with these arguments."""
        words = self.launcher.words(["loratools.launch.worker", *worker], slots, alone=alone)
        environment = self.launcher.environment(slots, alone=alone)
        with self._guard:
            if self._ending:
                raise LaunchError("the run is being stopped")
            try:
                child = subprocess.Popen(words, env=environment, stdout=stdout, stdin=subprocess.DEVNULL, **_own())
            except OSError as error:
                raise LaunchError(f"{words[0]} cannot be started: {error.strerror or error}") from error
            self._children.add(child)
        return child

    def end(self) -> None:
        """Ask all jobs to stop, then make them."""
        with self._guard:
            self._ending = True
            children = list(self._children)
        try:
            for number, patience in _STEPS:
                _signal(children, number)
                if _all_ended(children, patience):
                    return
        finally:
            for child in children:
                if child.poll() is None:
                    child.kill()


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


def _own() -> dict[str, Any]:
    """How a child is started so that the terminal's Ctrl-C reaches this process alone, which hands it on once."""
    if os.name == "nt":
        return {"creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)}
    return {"start_new_session": True}


def _signal(children: Sequence[subprocess.Popen[bytes]], number: int) -> None:
    for child in children:
        if child.poll() is None:
            with contextlib.suppress(OSError):  # it has ended at this moment
                if os.name == "nt":
                    child.send_signal(getattr(signal, "CTRL_BREAK_EVENT", signal.SIGTERM))
                else:
                    os.killpg(child.pid, number)


def _all_ended(children: Sequence[subprocess.Popen[bytes]], patience: float) -> bool:
    begun = time.monotonic()
    while any(child.poll() is None for child in children):
        if time.monotonic() - begun > patience:
            return False
        time.sleep(_POLL)
    return True
