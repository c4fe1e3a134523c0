"""Jobs -> lots: pictures of one stack in even batches, and stacks in the order that rewrites the fewest weights."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from loratools.preview.plan.jobs import Job, Stack
from loratools.preview.render.distances import Distances

_MOST = 1000  # different stacks beyond this keep the order that they were given in: the search is quadratic


@dataclass(frozen=True, eq=False)
class Lot:
    """A stack and the batches of pictures that are made under it; no stack where each picture is under its own."""

    stack: Stack | None
    batches: tuple[tuple[Job, ...], ...]

    @property
    def jobs(self) -> tuple[Job, ...]:
        """All its pictures."""
        return tuple(job for batch in self.batches for job in batch)


def plan_lots(jobs: Sequence[Job], batch: int) -> list[Lot]:
    """The lots of ``jobs`` in the order in which they are best rendered.

    A lot's batches depend on that lot's jobs alone, and not on which of them exist already, so that a picture is the
    same whether its grid was interrupted or not.
    """
    by_stack: dict[Hashable, list[Job]] = {}
    for job in jobs:
        by_stack.setdefault(job.stack.key, []).append(job)
    return in_order([Lot(own[0].stack, tuple(_batches(own, batch))) for own in by_stack.values()])


def mixed(lots: Sequence[Lot], batch: int) -> list[Lot]:
    """The same pictures in lots of one batch each, which may be under different stacks; neighbours are under near
    ones."""
    by_shape: dict[Hashable, list[Job]] = {}
    for job in (job for lot in lots for job in lot.jobs):
        by_shape.setdefault(job.shape, []).append(job)
    return [Lot(None, (tuple(part),)) for same in by_shape.values() for part in even(same, batch)]


def _batches(jobs: Sequence[Job], most: int) -> list[tuple[Job, ...]]:
    by_shape: dict[Hashable, list[Job]] = {}
    for job in jobs:
        by_shape.setdefault(job.shape, []).append(job)
    return [tuple(part) for same in by_shape.values() for part in even(same, most)]


def even(items: Sequence[Job], most: int) -> list[Sequence[Job]]:
    """``items`` in the fewest parts of at most ``most``, as equal as can be: 10 by 8 are 5 and 5, two of one shape."""
    count = -(-len(items) // most)
    small, larger = divmod(len(items), count)
    cuts = [0]
    for n in range(count):
        cuts.append(cuts[-1] + small + (n < larger))
    return [items[start:end] for start, end in itertools.pairwise(cuts)]


def in_order(lots: Sequence[Lot]) -> list[Lot]:
    """From the base on, always the nearest stack next, the first given among equals."""
    if not lots:
        return []
    distances = Distances([lot.stack for lot in lots])
    if distances.distinct > _MOST:
        return sorted(lots, key=lambda lot: bool(lot.stack and lot.stack.key != ("", 0.0)))
    waiting = np.ones(len(lots), dtype=bool)
    costs, ordered = distances.from_base(), list[Lot]()
    while waiting.any():
        nearest = int(np.where(waiting, costs, np.inf).argmin())
        waiting[nearest] = False
        ordered.append(lots[nearest])
        costs = distances.from_stack(nearest)
    return ordered
