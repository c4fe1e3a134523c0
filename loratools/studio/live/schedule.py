"""Which picture is drawn next: one slot a stream, in which the newest wish stands; streams and pages take turns.

The rules, in order:

* A newer wish of a stream takes the place of the one that waits there.
* Quick pictures (``drag``) go before whole ones (``rest``). The page that was served longest ago is next, and of its
  streams the one that was.
* A whole picture that is being drawn gives way to any quick one, and is drawn again afterwards; one that gave way
  :data:`_MOST_YIELDS` times is finished first, so that another page's hand cannot keep it away for ever.
* A quick picture that is being drawn gives way to a newer one of its stream if it is less than half done, but once
  only between two frames: a hand that never rests would else never see a picture.

Pure: no clock, thread or process is here.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from loratools.studio.live.wish import PictureWish

_MOST_YIELDS = 3


@dataclass(eq=False)
class Job:
    """A wish of a stream on its way; ``page`` is the connection's number.

    Attributes:
        done, steps: how far it is, as far as the renderer said.
        yields: how often it gave way to others'.
        deaths: how often the renderer died of it, or with it.
        leaving: it was told to end without a frame.
        unwanted: if it comes to a frame all the same, nobody is to see that.
    """

    page: int
    stream: int
    seq: int
    wish: PictureWish
    key: str
    number: int = field(default_factory=itertools.count(1).__next__)
    done: int = 0
    steps: int = 0
    yields: int = 0
    deaths: int = 0
    leaving: bool = False
    unwanted: bool = False

    @property
    def quick(self) -> bool:
        """Whether it is a quick picture."""
        return self.wish.quality == "drag"


@dataclass(eq=False)
class _Slot:
    """A stream's one place."""

    waiting: Job | None = None
    gave_way: bool = False  # since its last frame
    held: bool = False  # its reader has not caught up, so nothing new is drawn for it
    served: int = 0


class Schedule:
    """The slots of all pages' streams, and the one job that is being drawn."""

    def __init__(self) -> None:
        self._slots: dict[tuple[int, int], _Slot] = {}
        self._pages: dict[int, int] = {}  # when a page was served last
        self._clock = itertools.count(1)
        self.running: Job | None = None

    def put(self, job: Job) -> bool:
        """Queue a wish; True if the running job is to be stopped for it."""
        self._slots.setdefault((job.page, job.stream), _Slot()).waiting = job
        return self._gives_way(job)

    def skip(self, page: int, stream: int) -> bool:
        """Drop what a stream wants, since it has a newer picture already; True if the running job is to be stopped."""
        slot = self._slots.get((page, stream))
        if slot is not None:
            slot.waiting = None
        running = self.running
        if running is None or (running.page, running.stream) != (page, stream):
            return False
        running.unwanted = True
        return self._leave(running)

    def forget(self, page: int) -> bool:
        """Drop all that a page wants; True if the running job is to be stopped."""
        stops = [self.skip(page, stream) for own, stream in list(self._slots) if own == page]
        self._slots = {key: slot for key, slot in self._slots.items() if key[0] != page}
        self._pages.pop(page, None)
        return any(stops)

    def hold(self, page: int, stream: int, held: bool) -> None:
        """Draw nothing new for a stream, or go on."""
        self._slots.setdefault((page, stream), _Slot()).held = held

    def start(self) -> Job | None:
        """The next job, which is running from now on; None where there is none or another is running."""
        if self.running is not None:
            return None
        ready = [(key, slot) for key, slot in self._slots.items() if slot.waiting is not None and not slot.held]
        if not ready:
            return None
        key, slot = min(ready, key=lambda own: self._turn(*own))
        self.running, slot.waiting = slot.waiting, None
        self._pages[key[0]] = slot.served = next(self._clock)
        return self.running

    def finish(self) -> Job:
        """The running job, which has come to its frame or failed."""
        job = self._ended()
        if slot := self._slots.get((job.page, job.stream)):
            slot.gave_way = False
        return job

    def stop(self) -> Job:
        """The running job, which ended without a frame; it waits again if nothing newer does and it is still wanted."""
        job = self._ended()
        slot = self._slots.get((job.page, job.stream))
        if slot is not None and slot.waiting is None and not job.unwanted:
            slot.waiting, job.leaving, job.done = job, False, 0
        return job

    def waiting(self) -> list[Job]:
        """All jobs that wait."""
        return [slot.waiting for slot in self._slots.values() if slot.waiting is not None]

    def drop_waiting(self) -> list[Job]:
        """The jobs that waited; none does any longer."""
        dropped = self.waiting()
        for slot in self._slots.values():
            slot.waiting = None
        return dropped

    def _ended(self) -> Job:
        job, self.running = self.running, None
        if job is None:
            raise RuntimeError("no picture is being drawn")
        return job

    def _turn(self, key: tuple[int, int], slot: _Slot) -> tuple[bool, int, int]:
        quick = slot.waiting is not None and slot.waiting.quick
        return not quick, self._pages.get(key[0], 0), slot.served

    def _gives_way(self, newer: Job) -> bool:
        running = self.running
        if running is None or running.leaving:
            return False
        if (running.page, running.stream) == (newer.page, newer.stream):
            slot = self._slots[newer.page, newer.stream]
            if running.quick and (slot.gave_way or not newer.quick or 2 * running.done >= max(running.steps, 1)):
                return False
            slot.gave_way = running.quick
            return self._leave(running)
        if running.quick or not newer.quick or running.yields >= _MOST_YIELDS:
            return False
        running.yields += 1
        return self._leave(running)

    @staticmethod
    def _leave(job: Job) -> bool:
        """Note that a job is told to end; True if that is new."""
        before, job.leaving = job.leaving, True
        return not before
