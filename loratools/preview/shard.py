"""One grid by several processes: who renders what is settled by lock files in the grid's folder, and by nothing else.

The processes run on one machine, or on several that share the folder. Each renders its own stretch of the lots, portion
by portion under a lock that the operating system drops when its holder dies; who has finished takes what still lacks
from the others' ends. Rank 0 draws the sheet. So a process that is slow is helped, and one that dies is made up for, by
the others or by the next start.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from loratools.launch import Rank
from loratools.preview.order import Lot
from loratools.preview.store import Store

_PORTIONS = 8  # claims in a share: finer ones break batches of decoding, coarser ones balance ill
_LEAST = 8  # pictures in a portion
_PAUSE = 0.5  # seconds between looks at what others still have to write


class Shard:
    """One process's claims on the lots of a grid in ``folder``."""

    def __init__(self, folder: Path, rank: Rank, *, pause: float = _PAUSE) -> None:
        self._claims, self._rank, self._pause = folder / ".claims", rank, pause

    @contextlib.contextmanager
    def settling(self) -> Iterator[None]:
        """One process at a time: looking at what is there, and moving it to where it belongs."""
        with self._lock("settle").acquire():
            yield

    def portions(self, lots: Sequence[Lot], store: Store) -> Iterator[Sequence[Lot]]:
        """This process's portions, then what others have left, until no picture lacks anywhere."""
        waiting = portions(lots, self._rank)
        while waiting:
            left = []
            for portion in waiting:
                if not _lacks(portion, store):
                    continue
                lock = self._lock(_name(portion))
                try:
                    lock.acquire(blocking=False)
                except Timeout:
                    left.append(portion)
                    continue
                try:
                    if _lacks(portion, store):
                        yield portion
                finally:
                    lock.release()
            if left and len(left) == len(waiting):
                time.sleep(self._pause)
            waiting = left

    def clear(self) -> None:
        """Remove the lock files, once every picture is there.

        Every process does it when it leaves: one that came late made the folder again by only looking.
        """
        shutil.rmtree(self._claims, ignore_errors=True)

    def _lock(self, name: str) -> FileLock:
        self._claims.mkdir(parents=True, exist_ok=True)
        return FileLock(self._claims / f"{name}.lock")


def portions(lots: Sequence[Lot], rank: Rank) -> list[Sequence[Lot]]:
    """All lots in portions: the rank's own stretch in order, then the other stretches from their ends."""
    stretches = []
    for other in range(rank.world):
        start, end = other * len(lots) // rank.world, (other + 1) * len(lots) // rank.world
        stretches.append(_cut(lots[start:end]))
    own = stretches.pop(rank.rank)
    return [*own, *(portion for stretch in stretches for portion in reversed(stretch))]


def _cut(lots: Sequence[Lot]) -> list[Sequence[Lot]]:
    """Consecutive lots of about an eighth of the pictures each."""
    least = max(_LEAST, sum(len(lot.jobs) for lot in lots) // _PORTIONS)
    made: list[list[Lot]] = []
    room = 0
    for lot in lots:
        if room <= 0:
            made.append([])
            room = least
        made[-1].append(lot)
        room -= len(lot.jobs)
    return list(made)


def _lacks(portion: Sequence[Lot], store: Store) -> bool:
    wanted = [job.wanted for lot in portion for job in lot.jobs]
    store.look(wanted)
    return store.lacks(wanted)


def _name(portion: Sequence[Lot]) -> str:
    """The same in every process: a hash of the pictures' keys."""
    keys = "".join(job.wanted.key for lot in portion for job in lot.jobs)
    return hashlib.sha256(keys.encode()).hexdigest()[:24]
