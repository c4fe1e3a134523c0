"""Work on modules with every core, results in order, and only a few of them in memory at once."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

_SWITCH = 2e-4  # seconds; a thread back from a product of half a millisecond would wait ten times that for the others

IN_WORK = 160_000_000  # bytes of factors; computing with them takes about five times as many

_In = TypeVar("_In")
_Out = TypeVar("_Out")


def in_order(
    work: Callable[[_In], _Out], items: Iterable[_In], *, ahead: int = 2, size: Callable[[_In], int] | None = None
) -> Iterator[_Out]:
    """``map(work, items)`` on one thread a core, in order, at most ``ahead`` results a thread waiting.

    Torch's own threads are put to one meanwhile: many small matrices gain from a core each, not from sharing one.

    Args:
        size: bytes of an item's values. Items that are begun and not handed on yet are then at most ``IN_WORK`` bytes
            together, or one alone, however many cores there are.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = max(1, min(cores, 8))
    before, interval = torch.get_num_threads(), sys.getswitchinterval()
    torch.set_num_threads(1)
    sys.setswitchinterval(min(interval, _SWITCH))
    pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))
    waiting: deque[tuple[Future[_Out], int]] = deque()
    taken = 0
    try:
        for item in items:
            own = size(item) if size is not None else 0
            while waiting and (len(waiting) >= workers * ahead or taken + own > IN_WORK):
                first, its = waiting.popleft()
                taken -= its
                yield first.result()
            waiting.append((pool.submit(work, item), own))
            taken += own
        while waiting:
            yield waiting.popleft()[0].result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        torch.set_num_threads(before)
        sys.setswitchinterval(interval)
