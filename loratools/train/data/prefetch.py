"""Batches prepared ahead of the step that uses them, in a thread, in memory that a GPU can copy from by itself."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")
U = TypeVar("U")


class Prefetcher(Generic[T, U]):
    """``make(part)`` of every part, in order, up to ``ahead`` of them before they are asked for.

    The order is the parts' own, so it does not depend on the thread. An error in ``make`` is raised where its result
    would have been read. Closing (or leaving the ``with`` block) ends the thread; with ``ahead`` 0 there is none.

    Args:
        parts: what to prepare; consumed in the thread.
        make: reads, stacks and tokenises one part. It runs beside the step, so it may not use the GPU.
        ahead: results kept waiting at most.
    """

    def __init__(self, parts: Iterable[T], make: Callable[[T], U], ahead: int) -> None:
        self._parts, self._make, self._ahead = parts, make, ahead
        self._closed = threading.Event()
        self._ready: queue.Queue[U | _End] = queue.Queue(maxsize=max(ahead, 1))
        self._thread = threading.Thread(target=self._work, name="prefetch", daemon=True) if ahead else None
        if self._thread is not None:
            self._thread.start()

    def __enter__(self) -> Prefetcher[T, U]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[U]:
        if self._thread is None:
            for part in self._parts:
                yield self._make(part)
            return
        while True:
            value = self._ready.get()
            if not isinstance(value, _End):
                yield value
                continue
            if value.error is not None:
                raise value.error
            return

    def close(self) -> None:
        """Stop preparing and wait for the thread."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        end = _End(None)
        try:
            for part in self._parts:
                if not self._put(self._make(part)):
                    return
        except BaseException as error:  # handed over: the reader raises it
            end = _End(error)
        self._put(end)

    def _put(self, value: U | _End) -> bool:
        """Put ``value`` in when there is room; False if the prefetcher was closed before there was."""
        while not self._closed.is_set():
            try:
                self._ready.put(value, timeout=0.05)
                return True
            except queue.Full:
                continue
        return False


class _End:
    """No more values: all parts are done, or ``make`` raised ``error``."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error
