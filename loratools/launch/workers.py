"""Processes that were started together in some places of this machine, and take one job after another there.

What a process has read and set up by then, such as modules, its GPU and the base model of the last grid, stays for the
next job.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from loratools.errors import LaunchError
from loratools.launch.job import Job, JobFolder

_POLL = 0.05  # seconds between two looks at a process
_PATIENCE = 5.0  # seconds in which processes without a job have to end


class Workers:
    """Processes whose jobs lie in ``FOLDER/1``, ``FOLDER/2`` and so on. They end with the first job that fails.

    Attributes:
        child: the one process, or the launcher of several.
        busy: whether they have a job at this moment.
        used: whether they have had one, so that they may hold memory of their devices.
    """

    def __init__(self, folder: Path, child: subprocess.Popen[bytes], world: int) -> None:
        self.child, self.busy, self.used = child, False, False
        self._folder, self._world, self._count = folder, world, 0

    @property
    def alive(self) -> bool:
        """Whether they can take a job."""
        return self.child.poll() is None

    def run(self, job: Job) -> tuple[JobFolder, int]:
        """Have them run a job, to its end; its folder, and 0 or the exit code of processes that have ended."""
        folder = JobFolder(self._folder / str(self._count + 1), self._folder)
        folder.write(job)
        self._count, self.used = self._count + 1, True
        while (code := self.child.poll()) is None and not folder.is_done(self._world):
            time.sleep(_POLL)
        return folder, code or 0

    def end(self) -> None:
        """End the processes, which have no job and so nothing to save, and free what they hold."""
        end_children([self.child], [(signal.SIGTERM, _PATIENCE)])


def start_child(
    words: Sequence[str], environment: Mapping[str, str], stdout: int | None = None
) -> subprocess.Popen[bytes]:
    """Start a process so that the terminal's Ctrl-C reaches this one alone, which hands it on once.

    Raises:
        LaunchError: if it cannot be started.
    """
    own: dict[str, Any] = {"start_new_session": True}
    if os.name == "nt":
        own = {"creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)}
    try:
        return subprocess.Popen(words, env=environment, stdout=stdout, stdin=subprocess.DEVNULL, **own)
    except OSError as error:
        raise LaunchError(f"{words[0]} cannot be started: {error.strerror or error}") from error


def end_children(children: Sequence[subprocess.Popen[bytes]], ways: Iterable[tuple[int, float]]) -> None:
    """Ask processes to end, and make them if they do not.

    Args:
        ways: signals, one after the other, and the seconds after each in which they may end.
    """
    try:
        for number, patience in ways:
            signal_children(children, number)
            if _all_ended(children, patience):
                return
    finally:
        for child in children:
            if child.poll() is None:
                child.kill()


def signal_children(children: Iterable[subprocess.Popen[bytes]], number: int) -> None:
    """Send a signal to those that run; Windows has one for all purposes."""
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
