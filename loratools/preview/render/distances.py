"""How much of the patched weights changes from one stack to another."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from loratools.adapter.architectures.names import is_text
from loratools.preview.plan.jobs import Stack

_TEXT = 20  # a text encoder's module costs more than its share, because prompts are encoded again
_BASE: Mapping[str, Hashable] = {}

Costs = NDArray[np.float64]


class Distances:
    """What going from one of n stacks to another costs, over all modules: 2 where a delta comes, 1 where it only gets
    another weight or goes, nothing where all is as it was. No stack is the base alone.

    Stacks of equal marks, such as those of one row at several weights, are compared once.
    """

    def __init__(self, stacks: Sequence[Stack | None]) -> None:
        marks = [_BASE if stack is None or stack.key == ("", 0.0) else stack.module_marks for stack in stacks]
        self._weights = np.array([0.0 if stack is None else stack.weight for stack in stacks])
        self._module_costs = np.array([_TEXT if is_text(name) else 1.0 for name in _columns(marks)])
        self._marks, places = np.unique(_table(marks), axis=0, return_inverse=True)
        self._places = places.reshape(-1)
        self._known: dict[int, tuple[Costs, Costs]] = {}

    @property
    def distinct(self) -> int:
        """How many contents have to be compared."""
        return len(self._marks)

    def from_base(self) -> Costs:
        """The costs (n,) of going from the base to each stack."""
        costs: Costs = (self._marks != 0) * 2.0 @ self._module_costs
        return costs[self._places]

    def from_stack(self, index: int) -> Costs:
        """The costs (n,) of going from stack ``index`` to each."""
        changed, kept = self._from(int(self._places[index]))
        costs: Costs = changed[self._places] + kept[self._places] * (self._weights != self._weights[index])
        return costs

    def _from(self, place: int) -> tuple[Costs, Costs]:
        """The costs of the modules whose marks differ from those at ``place``, and of those that have the same."""
        if place not in self._known:
            here = self._marks[place]
            differs, gone = self._marks != here, self._marks == 0
            changed = differs * np.where(gone, 1.0, 2.0) @ self._module_costs
            self._known[place] = (changed, (~differs & ~gone) @ self._module_costs)
        return self._known[place]


def _columns(marks: Sequence[Mapping[str, Hashable]]) -> dict[str, int]:
    """Every module of any stack, and its column."""
    return {name: n for n, name in enumerate(dict.fromkeys(name for own in _different(marks) for name in own))}


def _table(marks: Sequence[Mapping[str, Hashable]]) -> NDArray[np.int64]:
    """A number for each stack's mark of each module (n, modules); 0 where it has none."""
    columns, numbers = _columns(marks), dict[Hashable, int]()
    rows: dict[int, NDArray[np.int64]] = {}
    for own in _different(marks):
        row = rows[id(own)] = np.zeros(len(columns), dtype=np.int64)
        for name, mark in own.items():
            row[columns[name]] = numbers.setdefault(mark, len(numbers) + 1)
    return np.stack([rows[id(own)] for own in marks])


def _different(marks: Sequence[Mapping[str, Hashable]]) -> list[Mapping[str, Hashable]]:
    return list({id(own): own for own in marks}.values())
