"""The engine that draws: one process that keeps the base loaded, started with the first wish, and again if it dies."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import threading
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from loratools.studio.api.words import Value, failure, words
from loratools.studio.live import worker
from loratools.studio.live.engine import Engine
from loratools.studio.live.painter_options import PainterOptions
from loratools.studio.live.schedule import Job

_TRIES = 2  # processes that may die with one wish
_IN_A_ROW = 3  # processes that may die without one frame between them
_PATIENCE = 5.0  # seconds that a process may take to end


@dataclass(frozen=True, eq=False)
class _Process:
    """A renderer's process and the connection to it."""

    process: Any
    connection: Connection


class Renderer(Engine):
    """Draws in a process of its own, so that the server stays small and answers while a picture is drawn.

    A process that dies, for instance for lack of memory, is started again, which every page is told, and draws the same
    wish once more; a wish with which two processes died fails.
    """

    def __init__(self, options: PainterOptions | None = None) -> None:
        super().__init__()
        self._options = options or PainterOptions()
        self._runs = itertools.count(1)
        self._run = 0  # the running attempt
        self._current: _Process | None = None
        self._dead_in_a_row = 0

    @property
    def process_id(self) -> int | None:
        """Of the renderer's process; None while there is none."""
        with self._guard:
            return None if self._current is None else self._current.process.pid

    def _begin(self, job: Job) -> None:
        self._run = next(self._runs)
        if self._current is None:
            try:
                self._current = self._start()
            except OSError as error:  # no memory, or no more processes; the next wish tries again
                kind, reason = type(error).__name__, error.strerror or ""
                self._ended(failure("live.fault", kind=kind, reason=reason))
                return
        with contextlib.suppress(OSError):  # it died just now; its reader says so
            self._current.connection.send(worker.Draw(self._run, job.wish))

    def _stop(self, job: Job) -> None:
        if self._current is not None:
            with contextlib.suppress(OSError):
                self._current.connection.send(worker.Stop(self._run))

    def _release(self) -> None:
        """End the process; one that draws is not waited for."""
        if self._current is None:
            return
        ended, self._current = self._current, None
        ended.process.terminate()  # its reader then closes the connection
        threading.Thread(target=_bury, args=(ended.process,), name="renderer's end", daemon=True).start()
        if self._schedule.running is not None:
            self._ended(None)

    def _start(self) -> _Process:
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        process = context.Process(target=worker.main, args=(there, self._options), name="renderer", daemon=True)
        process.start()
        there.close()
        made = _Process(process, here)
        threading.Thread(target=self._listen, args=(made,), name="renderer's answers", daemon=True).start()
        return made

    def _listen(self, own: _Process) -> None:
        while True:
            try:
                message: worker.FromProcess = own.connection.recv()
            except (EOFError, OSError):
                break
            with self._guard:
                if self._current is own:
                    self._take(message)
        own.process.join(_PATIENCE)
        with self._guard:
            own.connection.close()
            if self._current is own:
                self._current = None
                self._died(own.process.exitcode)

    def _take(self, message: worker.FromProcess) -> None:
        if isinstance(message, worker.Said):
            self._say(message.words)
        elif message.run != self._run or self._schedule.running is None:
            return
        elif isinstance(message, worker.Step):
            self._progress(message.done, message.steps)
        elif message.failure is not None:
            self._ended(message.failure)
        else:
            self._dead_in_a_row = 0 if message.frame is not None else self._dead_in_a_row
            self._ended(message.frame)

    def _died(self, code: int | None) -> None:
        """Start again what the dead process was drawing, unless it seems to be the cause."""
        self._dead_in_a_row += 1
        job, how = self._schedule.running, _how(code)
        if self._dead_in_a_row >= _IN_A_ROW:
            self._dead_in_a_row = 0
            if job is not None:
                self._refuse(job, failure("live.often", **how))
                job.unwanted = True
            for waiting in self._schedule.drop_waiting():
                self._refuse(waiting, failure("live.often", **how))
            if job is not None:
                self._ended(None)
            return
        if job is None:
            return
        self._say(words("live.restarted", **how))
        job.deaths += 1
        if job.deaths >= _TRIES:
            self._ended(failure("live.twice", **how))
        else:
            self._ended(None)


def _how(code: int | None) -> dict[str, Value]:
    """How a process ended, as the values of words that have a ``how``."""
    if code is None:
        return {"how": "silent"}
    if code == -9:
        return {"how": "killed"}
    return {"how": "signal", "code": -code} if code < 0 else {"how": "code", "code": code}


def _bury(process: Any) -> None:
    """Wait for a process that was told to end, and kill one that does not."""
    process.join(_PATIENCE)
    if process.is_alive():
        process.kill()
        process.join(_PATIENCE)
