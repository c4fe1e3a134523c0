"""Jobs -> lots: pictures of one stack in even batches, and stacks in the order that rewrites the fewest weights."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from loratools.adapter.names import is_text
from loratools.preview.jobs import Job, Stack

_MOST = 400  # stacks beyond this keep the order that they were given in: the search is quadratic
_TEXT = 20  # a text encoder's module costs more than its share, because prompts are encoded again


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


def plan_mixed(jobs: Sequence[Job], batch: int) -> list[Lot]:
    """Lots of one batch each, whose pictures may be under different stacks; neighbours are under near ones."""
    by_shape: dict[Hashable, list[Job]] = {}
    for lot in plan_lots(jobs, batch):
        for job in lot.jobs:
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
    """From the base on, always the nearest stack next (the first given among equals); see :func:`distance`."""
    if len(lots) > _MOST:
        return sorted(lots, key=lambda lot: bool(_contents(lot.stack)))
    waiting = [(lot, _contents(lot.stack)) for lot in lots]
    ordered, at = [], frozenset[tuple[str, Hashable, float]]()
    while waiting:
        here = at
        nearest = min(range(len(waiting)), key=lambda n: distance(here, waiting[n][1]))
        lot, at = waiting.pop(nearest)
        ordered.append(lot)
    return ordered


def distance(one: frozenset[tuple[str, Hashable, float]], two: frozenset[tuple[str, Hashable, float]]) -> float:
    """What going from one stack to another costs: 2 a module whose delta is new, less where only the weight is."""
    differing = one ^ two
    if not differing:
        return 0
    known = {(name, mark) for name, mark, _ in one}
    cost = {name: 0.0 for name, _, _ in differing}
    for name, mark, weight in two:
        if name in cost and (name, mark, weight) not in one:
            cost[name] = 1 if (name, mark) in known else 2
    return sum(max(1.0, own) * (_TEXT if is_text(name) else 1) for name, own in cost.items())


def _contents(stack: Stack | None) -> frozenset[tuple[str, Hashable, float]]:
    if stack is None or stack.key == ("", 0.0):
        return frozenset()
    return frozenset((name, mark, stack.weight) for name, mark in stack.module_marks.items())
