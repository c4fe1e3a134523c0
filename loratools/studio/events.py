"""What changed, as an append-only list with rising ids: whoever was away asks for what came after the last one seen."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import Any, Literal

from loratools.studio.api.messages import Event

Kind = Literal["job", "run", "file", "log", "norms", "reset"]
_KEPT = 2_000  # events; who missed more than these reads everything anew


class Events:
    """The newest events. Any thread may add; each watcher of an event loop awaits the next ones.

    Ids begin at the time of the start in milliseconds, so that those of a later start of the server are higher: a page
    that comes back with an id of the earlier one is sent ``reset`` and reads everything anew.
    """

    def __init__(self, kept: int = _KEPT) -> None:
        self._guard = threading.Lock()
        self._events: deque[Event] = deque(maxlen=kept)
        self._first = self._last = int(time.time() * 1000)
        self._waiting: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()

    @property
    def last(self) -> int:
        """The id of the newest event."""
        with self._guard:
            return self._last

    def add(self, event: Kind, data: Mapping[str, Any]) -> int:
        """Append an event, wake whoever waits, and return its id."""
        with self._guard:
            self._last += 1
            made = Event(id=self._last, event=event, data=dict(data))
            self._events.append(made)
            waiting = tuple(self._waiting)
        for loop, wake in waiting:
            try:
                loop.call_soon_threadsafe(wake.set)
            except RuntimeError:  # the loop has been closed, and its watcher with it
                with self._guard:
                    self._waiting.discard((loop, wake))
        return made.id

    def after(self, last: int) -> list[Event]:
        """The events after the id ``last``; one ``reset`` where some of them are no longer kept. 0: none were seen,
        and nothing is missed."""
        with self._guard:
            if last == 0:
                return []
            oldest = self._events[0].id if self._events else self._last + 1
            if last > self._last or last < oldest - 1:
                return [Event(id=self._last, event="reset", data={})]
            return [event for event in self._events if event.id > last]

    async def wait(self, last: int, timeout: float | None = None) -> list[Event]:
        """As :meth:`after`, once there are any; empty after ``timeout`` seconds."""
        wake = asyncio.Event()
        entry = (asyncio.get_running_loop(), wake)
        with self._guard:
            self._waiting.add(entry)
        try:
            async with asyncio.timeout(timeout):
                while not (found := self.after(last)):
                    wake.clear()
                    if not (found := self.after(last)):
                        await wake.wait()
                return found
        except TimeoutError:
            return []
        finally:
            with self._guard:
                self._waiting.discard(entry)
