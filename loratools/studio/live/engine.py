"""What the websocket asks for pictures: pages connect, say what each of their streams should show, and get answers."""

from __future__ import annotations

import itertools
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable

from loratools.studio.api.messages import Drawing, Failed, Note
from loratools.studio.api.words import Failure, Words, failure, words
from loratools.studio.live.frame import Frame
from loratools.studio.live.kept_frames import KeptFrames
from loratools.studio.live.schedule import Job, Schedule
from loratools.studio.live.wish import PictureWish

Answer = Frame | Drawing | Failed | Note
Answers = Callable[[int, int, Answer], None]  # (stream, seq, answer); called from any thread, and returns at once
_BETWEEN = 0.1  # seconds between two words on how far a picture is


class Engine(ABC):
    """Schedules the wishes of all pages, keeps frames, and hands one job after another to :meth:`_begin`.

    How a job is drawn is a subclass's: in a process that has the base (:mod:`.renderer`), or made up (:mod:`.fake`).
    Its methods may be called from any thread.
    """

    def __init__(self) -> None:
        self._guard = threading.RLock()
        self._schedule = Schedule()
        self._kept = KeptFrames()
        self._pages: dict[int, Answers] = {}
        self._numbers = itertools.count(1)
        self._told = 0.0
        self._paused: Failure | None = None

    def connect(self, answers: Answers) -> Page:
        """A page's connection; close it when the page is gone."""
        with self._guard:
            page = Page(self, next(self._numbers))
            self._pages[page.number] = answers
        return page

    def pause(self, reason: Failure) -> None:
        """Free the device for other work; until :meth:`resume` every wish fails with this reason."""
        with self._guard:
            self._paused = reason
            running = self._schedule.running
            for job in [*self._schedule.drop_waiting(), *([running] if running is not None else [])]:
                self._refuse(job, reason)
                job.unwanted = True
            self._release()

    def resume(self) -> None:
        """Draw again, which every page is told."""
        with self._guard:
            if self._paused is not None:
                self._paused = None
                self._say(words("live.again"))

    def close(self) -> None:
        """Stop drawing, and free everything."""
        self.pause(failure("live.ending"))

    @abstractmethod
    def _begin(self, job: Job) -> None:
        """Start a job, whose end is told by :meth:`_ended`; the guard is held."""

    @abstractmethod
    def _stop(self, job: Job) -> None:
        """Have the running job end at its next step; the guard is held."""

    @abstractmethod
    def _release(self) -> None:
        """Free the device; a running job then ends; the guard is held."""

    def _draw(self, page: int, stream: int, seq: int, wish: PictureWish) -> None:
        job = Job(page, stream, seq, wish, wish.key())
        with self._guard:
            if self._paused is not None:
                self._refuse(job, self._paused)
                return
            kept = self._kept.get(job.key)
            if kept is not None:
                self._stop_if(self._schedule.skip(page, stream))
                self._answer(job, kept)
            else:
                self._stop_if(self._schedule.put(job))
            self._next()

    def _cancel(self, page: int, stream: int) -> None:
        with self._guard:
            self._stop_if(self._schedule.skip(page, stream))

    def _hold(self, page: int, stream: int, held: bool) -> None:
        with self._guard:
            self._schedule.hold(page, stream, held)
            self._next()

    def _disconnect(self, page: int) -> None:
        with self._guard:
            self._pages.pop(page, None)
            self._stop_if(self._schedule.forget(page))

    def _ended(self, result: Frame | Failure | None) -> None:
        """The running job came to a frame, failed, or was stopped (None); the next one begins."""
        with self._guard:
            job = self._schedule.stop() if result is None else self._schedule.finish()
            if isinstance(result, Frame):
                if result.preview == job.quick:  # a picture that is smaller than asked for may be whole again next time
                    self._kept.put(job.key, result)
                self._answer(job, result)
            elif result is not None:
                self._refuse(job, result)
            self._next()

    def _progress(self, done: int, steps: int) -> None:
        """How far the running job is."""
        with self._guard:
            job = self._schedule.running
            if job is None:
                return
            job.done, job.steps = done, steps
            now = time.monotonic()
            if now - self._told >= _BETWEEN:
                self._told = now
                self._answer(job, Drawing(stream=job.stream, seq=job.seq, step=done, steps=steps))

    def _say(self, said: Words) -> None:
        """Tell every page something."""
        with self._guard:
            for answers in list(self._pages.values()):
                answers(0, 0, Note.of(said))

    def _refuse(self, job: Job, reason: Failure) -> None:
        self._answer(job, Failed.of(reason, job.stream, job.seq))

    def _answer(self, job: Job, answer: Answer) -> None:
        answers = self._pages.get(job.page)
        if answers is not None and not job.unwanted:
            answers(job.stream, job.seq, answer)

    def _next(self) -> None:
        """Begin what is next; what another stream has had drawn meanwhile is answered at once."""
        while self._paused is None and (job := self._schedule.start()) is not None:
            kept = self._kept.get(job.key)
            if kept is None:
                self._begin(job)
                return
            self._answer(self._schedule.finish(), kept)

    def _stop_if(self, wanted: bool) -> None:
        if wanted and self._schedule.running is not None:
            self._stop(self._schedule.running)


class Page:
    """One page's connection to an engine."""

    def __init__(self, engine: Engine, number: int) -> None:
        self._engine, self.number = engine, number

    def draw(self, stream: int, seq: int, wish: PictureWish) -> None:
        """Show ``wish`` in a stream, in the place of what it was to show."""
        self._engine._draw(self.number, stream, seq, wish)

    def cancel(self, stream: int) -> None:
        """Nothing more is wanted of a stream."""
        self._engine._cancel(self.number, stream)

    def hold(self, stream: int, held: bool) -> None:
        """Draw nothing new for a stream, whose page has not caught up; or go on."""
        self._engine._hold(self.number, stream, held)

    def close(self) -> None:
        """The page is gone."""
        self._engine._disconnect(self.number)
