"""Jobs -> stack batches: pictures of one stack in even batches, in the order that rewrites the fewest weights."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loratools.adapter.architectures.names import is_text
from loratools.preview.plan.jobs import Job, Stack

_MOST = 1000  # different stacks beyond this keep the order that they were given in: the search is quadratic
_TEXT = 20  # a text encoder's module costs more than its share, because prompts are encoded again
_BASE: Mapping[str, Hashable] = {}

Costs = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class StackBatch:
    """A stack and the batches of pictures that are made under it; no stack where each picture is under its own."""

    stack: Stack | None
    batches: tuple[tuple[Job, ...], ...]

    @property
    def jobs(self) -> tuple[Job, ...]:
        """All its pictures."""
        return tuple(job for batch in self.batches for job in batch)


def plan_stack_batches(jobs: Sequence[Job], batch: int, *, keep_order: bool = False) -> list[StackBatch]:
    """``jobs`` by stack, in the order in which they are best rendered, or in that of their first jobs.

    The batches under a stack depend on that stack's jobs alone, and not on which of them exist already, so that a
    picture is the same whether its grid was interrupted or not.

    Args:
        batch: pictures a batch, at most.
    """
    by_stack: dict[Hashable, list[Job]] = {}
    for job in jobs:
        by_stack.setdefault(job.stack.key, []).append(job)
    groups = [StackBatch(own[0].stack, tuple(_batches(own, batch))) for own in by_stack.values()]
    return groups if keep_order or len(groups) == 1 else nearest_first(groups)


def mixed_batches(groups: Sequence[StackBatch], batch: int, *, first_alone: bool = False) -> list[StackBatch]:
    """The same pictures, one batch a group, each picture of a batch under its own stack; neighbours are under similar
    stacks.

    Args:
        first_alone: whether the first picture of several batches is one of its own, for somebody who waits for it.
    """
    jobs = [job for group in groups for job in group.jobs]
    alone = jobs[:1] if first_alone and len(jobs) > batch else []
    parts = [tuple(alone)] if alone else []
    return [StackBatch(None, (part,)) for part in [*parts, *_batches(jobs[len(alone) :], batch)]]


def _batches(jobs: Sequence[Job], most: int) -> list[tuple[Job, ...]]:
    """Jobs of one shape together, at most ``most`` in a batch."""
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


def nearest_first(groups: Sequence[StackBatch]) -> list[StackBatch]:
    """Groups reordered: starting from the base, always the one whose stack is cheapest to patch next, the first given
    among equals."""
    if not groups:
        return []
    distances = Distances([group.stack for group in groups])
    if distances.distinct > _MOST:
        return sorted(groups, key=lambda group: bool(group.stack and group.stack.key != ("", 0.0)))
    waiting = np.ones(len(groups), dtype=bool)
    costs, ordered = distances.from_base(), list[StackBatch]()
    while waiting.any():
        nearest = int(np.where(waiting, costs, np.inf).argmin())
        waiting[nearest] = False
        ordered.append(groups[nearest])
        costs = distances.from_stack(nearest)
    return ordered


class Distances:
    """What patching one of n stacks after another costs, summed over modules: 2 where a new delta is added, 1 where a
    delta only gets another weight or is removed, 0 where the module stays as it is. No stack is the base alone.

    Stacks with equal content keys, such as one row at several weights, are compared once.
    """

    def __init__(self, stacks: Sequence[Stack | None]) -> None:
        content_keys = [_BASE if stack is None or stack.key == ("", 0.0) else stack.keys_by_module for stack in stacks]
        self._weights = np.array([0.0 if stack is None else stack.weight for stack in stacks])
        self._module_costs = np.array([_TEXT if is_text(name) else 1.0 for name in _columns(content_keys)])
        self._contents, places = np.unique(_table(content_keys), axis=0, return_inverse=True)
        self._places = places.reshape(-1)
        self._known: dict[int, tuple[Costs, Costs]] = {}

    @property
    def distinct(self) -> int:
        """How many contents have to be compared."""
        return len(self._contents)

    def from_base(self) -> Costs:
        """The costs (n,) of going from the base to each stack."""
        costs: Costs = (self._contents != 0) * 2.0 @ self._module_costs
        return costs[self._places]

    def from_stack(self, index: int) -> Costs:
        """The costs (n,) of going from stack ``index`` to each."""
        changed, kept = self._from(int(self._places[index]))
        costs: Costs = changed[self._places] + kept[self._places] * (self._weights != self._weights[index])
        return costs

    def _from(self, place: int) -> tuple[Costs, Costs]:
        """Costs (n,) of going from the stack at ``place``: of modules whose content changes, and of all others that
        change if the weight does."""
        if place not in self._known:
            here = self._contents[place]
            differs, gone = self._contents != here, self._contents == 0
            changed = differs * np.where(gone, 1.0, 2.0) @ self._module_costs
            self._known[place] = (changed, (~differs & ~gone) @ self._module_costs)
        return self._known[place]


def _columns(content_keys: Sequence[Mapping[str, Hashable]]) -> dict[str, int]:
    """Every module of any stack, and its column."""
    return {name: n for n, name in enumerate(dict.fromkeys(name for own in _different(content_keys) for name in own))}


def _table(content_keys: Sequence[Mapping[str, Hashable]]) -> NDArray[np.int64]:
    """A number for each stack's content key of each module (n, modules); 0 where it has none."""
    columns, numbers = _columns(content_keys), dict[Hashable, int]()
    rows: dict[int, NDArray[np.int64]] = {}
    for own in _different(content_keys):
        row = rows[id(own)] = np.zeros(len(columns), dtype=np.int64)
        for name, key in own.items():
            row[columns[name]] = numbers.setdefault(key, len(numbers) + 1)
    return np.stack([rows[id(own)] for own in content_keys])


def _different(content_keys: Sequence[Mapping[str, Hashable]]) -> list[Mapping[str, Hashable]]:
    return list({id(own): own for own in content_keys}.values())
