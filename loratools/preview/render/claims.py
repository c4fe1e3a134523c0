"""Which process of a launch renders which pictures of a grid: alone, or by lock files in the grid's folder.

The processes run on one machine, or on several that share the folder. Each renders its own share of the stack batches,
portion by portion, under a lock that the operating system releases when its holder dies. A process that has finished
its share takes what is still missing from the ends of the others' shares. Rank 0 draws the sheet. So a slow process is
helped, and one that dies is made up for, by the others or by the next start.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from filelock import FileLock, Timeout

from loratools.launch import Rank
from loratools.preview.plan.jobs import Job
from loratools.preview.render.batches import StackBatch
from loratools.preview.render.picture_store import GridPictures

_LEAST = 8  # pictures in a portion: a batch
_PAUSE = 0.5  # seconds between looks at what others still have to write


class Claims(Protocol):
    """Which stack batches this process renders, in portions."""

    def portions(self, groups: Sequence[StackBatch], pictures: GridPictures) -> Generator[Sequence[StackBatch]]:
        """Portions of ``groups``, each claimed until its pictures are on disk or the generator is closed.

        An empty portion asks the caller to flush: all pictures of the portions before it have to be on disk before the
        next portion is asked for, because other processes may be waiting for them.
        """
        ...


def everything(groups: Sequence[StackBatch]) -> Generator[Sequence[StackBatch]]:
    """The portions of a single process: all of ``groups`` at once."""
    yield groups


def with_next(
    portions: Iterable[Sequence[StackBatch]],
) -> Iterator[tuple[StackBatch | None, StackBatch | None]]:
    """Every group with the one that follows it, which may be in the next portion.

    A pair without a group asks the caller to flush all pictures to disk: after an empty portion, and at the end.
    """
    held: StackBatch | None = None
    for portion in portions:
        for group in portion:
            if held is not None:
                yield held, group
            held = group
        if not portion:
            if held is not None:
                yield held, None
            held = None
            yield None, None
    if held is not None:
        yield held, None
    yield None, None


class FileClaims:
    """One process's claims on the stack batches of a grid in ``folder``, as lock files there."""

    def __init__(self, folder: Path, rank: Rank, *, pause: float = _PAUSE) -> None:
        self._claims, self._rank, self._pause = folder / ".claims", rank, pause

    @contextlib.contextmanager
    def relocating(self) -> Iterator[None]:
        """Hold the lock under which one process at a time looks for existing pictures and renames them."""
        with self._lock("settle").acquire():
            yield

    def portions(self, groups: Sequence[StackBatch], pictures: GridPictures) -> Generator[Sequence[StackBatch]]:
        """This process's portions, then what the others have not rendered yet, until no picture is missing anywhere.

        An empty portion precedes each portion of another process's share: nothing is taken from others before this
        process has written its own pictures, and it never waits while others may be waiting for its pictures.
        """
        own, others = portions(groups, self._rank)
        with _Held(pictures) as held:
            yield from self._claimed(own, held)
            waiting: Sequence[Sequence[StackBatch]] = [*own, *others]
            while waiting := [portion for portion in waiting if _lacks(portion, pictures)]:
                yield ()
                taken = next(self._claimed(waiting, held), None)
                if taken is None:
                    time.sleep(self._pause)
                else:
                    yield taken

    def _claimed(self, some: Sequence[Sequence[StackBatch]], held: _Held) -> Iterator[Sequence[StackBatch]]:
        """Those of ``some`` with missing pictures and a free lock, which this process then holds."""
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

        Every process does so when it ends, because a late one creates the folder again when it tries the locks.
        """
        shutil.rmtree(self._claims, ignore_errors=True)

    def _lock(self, name: str) -> FileLock:
        self._claims.mkdir(parents=True, exist_ok=True)
        return FileLock(self._claims / f"{name}.lock")


class _Held:
    """The locks of portions whose pictures are not all on disk yet; all are released when the block ends."""

    def __init__(self, pictures: GridPictures) -> None:
        self._pictures = pictures
        self._locks: list[tuple[FileLock, Sequence[StackBatch]]] = []

    def __enter__(self) -> _Held:
        return self

    def __exit__(self, *_: object) -> None:
        for lock, _portion in self._locks:
            lock.release()

    def add(self, lock: FileLock, portion: Sequence[StackBatch]) -> None:
        """Hold ``lock`` until the pictures of ``portion`` are on disk."""
        self._locks.append((lock, portion))

    def lacking(self, portion: Sequence[StackBatch]) -> bool:
        """Whether pictures of ``portion`` are missing; releases the locks of all portions that are on disk by now."""
        done = [lock for lock, own in self._locks if not self._pictures.lacks(_jobs(own))]
        self._locks = [(lock, own) for lock, own in self._locks if lock not in done]
        for lock in done:
            lock.release()
        return _lacks(portion, self._pictures)


def portions(groups: Sequence[StackBatch], rank: Rank) -> tuple[list[Sequence[StackBatch]], list[Sequence[StackBatch]]]:
    """All groups in portions: the rank's own share in order, and the other ranks' shares from their ends."""
    shares = []
    for other in range(rank.world):
        start, end = other * len(groups) // rank.world, (other + 1) * len(groups) // rank.world
        shares.append(_cut(groups[start:end]))
    own = shares.pop(rank.rank)
    return own, [portion for share in shares for portion in reversed(share)]


def _cut(groups: Sequence[StackBatch]) -> list[Sequence[StackBatch]]:
    """Consecutive groups in portions of at least ``_LEAST`` pictures; the last portion may have fewer."""
    made: list[list[StackBatch]] = []
    room = 0
    for group in groups:
        if room <= 0:
            made.append([])
            room = _LEAST
        made[-1].append(group)
        room -= len(group.jobs)
    return list(made)


def _lacks(portion: Sequence[StackBatch], pictures: GridPictures) -> bool:
    jobs = _jobs(portion)
    pictures.rescan(jobs)
    return pictures.lacks(jobs)


def _jobs(portion: Sequence[StackBatch]) -> list[Job]:
    return [job for group in portion for job in group.jobs]


def _name(portion: Sequence[StackBatch]) -> str:
    """The name of a portion's lock: a hash of its pictures' keys, so that all processes use the same one."""
    keys = "".join(str(job.key) for job in _jobs(portion))
    return hashlib.sha256(keys.encode()).hexdigest()[:24]
