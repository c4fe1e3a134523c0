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
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from loratools.launch import Rank
from loratools.preview.plan.jobs import Wanted
from loratools.preview.render.batches import Lot
from loratools.preview.render.picture_store import Store

_LEAST = 8  # pictures in a portion: a batch
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

    def portions(self, lots: Sequence[Lot], store: Store) -> Generator[Sequence[Lot]]:
        """This process's portions, then what others have left, until no picture lacks anywhere.

        An empty one comes before each of the others', so that nothing is taken from them before this process is
        free, and before it waits for them, who may be waiting for it. See
        :class:`~loratools.preview.render.lookahead.Claims`.
        """
        own, others = portions(lots, self._rank)
        with _Held(store) as held:
            yield from self._claimed(own, held)
            waiting: Sequence[Sequence[Lot]] = [*own, *others]
            while waiting := [portion for portion in waiting if _lacks(portion, store)]:
                yield ()
                taken = next(self._claimed(waiting, held), None)
                if taken is None:
                    time.sleep(self._pause)
                else:
                    yield taken

    def _claimed(self, some: Sequence[Sequence[Lot]], held: _Held) -> Iterator[Sequence[Lot]]:
        """Those of ``some`` that lack, and that nobody holds: they are this process's from here on."""
        for portion in some:
            if held.lacking(portion):
                lock = self._lock(_name(portion))
                try:
                    lock.acquire(blocking=False)
                except Timeout:
                    continue
                held.add(lock, portion)
                if held.lacking(portion):
                    yield portion

    def clear(self) -> None:
        """Remove the lock files, once every picture is there.

        Every process does it when it leaves: one that came late made the folder again by only looking.
        """
        shutil.rmtree(self._claims, ignore_errors=True)

    def _lock(self, name: str) -> FileLock:
        self._claims.mkdir(parents=True, exist_ok=True)
        return FileLock(self._claims / f"{name}.lock")


class _Held:
    """The locks of portions whose pictures are still on their way to the disk; all are released with the block."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._locks: list[tuple[FileLock, Sequence[Lot]]] = []

    def __enter__(self) -> _Held:
        return self

    def __exit__(self, *_: object) -> None:
        for lock, _portion in self._locks:
            lock.release()

    def add(self, lock: FileLock, portion: Sequence[Lot]) -> None:
        """Hold ``lock`` until the pictures of ``portion`` are on disk."""
        self._locks.append((lock, portion))

    def lacking(self, portion: Sequence[Lot]) -> bool:
        """Whether pictures of ``portion`` lack; releases all that are on disk meanwhile."""
        done = [lock for lock, own in self._locks if not self._store.lacks(_wanted(own))]
        self._locks = [(lock, own) for lock, own in self._locks if lock not in done]
        for lock in done:
            lock.release()
        return _lacks(portion, self._store)


def portions(lots: Sequence[Lot], rank: Rank) -> tuple[list[Sequence[Lot]], list[Sequence[Lot]]]:
    """All lots in portions: the rank's own stretch in order, and the other stretches from their ends."""
    stretches = []
    for other in range(rank.world):
        start, end = other * len(lots) // rank.world, (other + 1) * len(lots) // rank.world
        stretches.append(_cut(lots[start:end]))
    own = stretches.pop(rank.rank)
    return own, [portion for stretch in stretches for portion in reversed(stretch)]


def _cut(lots: Sequence[Lot]) -> list[Sequence[Lot]]:
    """Consecutive lots of a batch's pictures together, or one lot that has more."""
    made: list[list[Lot]] = []
    room = 0
    for lot in lots:
        if room <= 0:
            made.append([])
            room = _LEAST
        made[-1].append(lot)
        room -= len(lot.jobs)
    return list(made)


def _lacks(portion: Sequence[Lot], store: Store) -> bool:
    wanted = _wanted(portion)
    store.look(wanted)
    return store.lacks(wanted)


def _wanted(portion: Sequence[Lot]) -> list[Wanted]:
    return [job.wanted for lot in portion for job in lot.jobs]


def _name(portion: Sequence[Lot]) -> str:
    """The same in every process: a hash of the pictures' keys."""
    keys = "".join(job.wanted.key for lot in portion for job in lot.jobs)
    return hashlib.sha256(keys.encode()).hexdigest()[:24]
