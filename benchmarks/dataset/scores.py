"""Precision and recall of what was found against what was planted."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Link = frozenset[str]


@dataclass(frozen=True)
class Score:
    """How many of the planted were found, and how many of the found were planted."""

    planted: int
    found: int
    both: int

    @property
    def precision(self) -> float:
        """Share of what was found that was planted."""
        return self.both / self.found if self.found else 1.0

    @property
    def recall(self) -> float:
        """Share of what was planted that was found."""
        return self.both / self.planted if self.planted else 1.0

    def __add__(self, other: Score) -> Score:
        return Score(self.planted + other.planted, self.found + other.found, self.both + other.both)


def links(groups: Iterable[Sequence[str]]) -> set[Link]:
    """Every pair of files of one group."""
    return {frozenset(pair) for group in groups for pair in itertools.combinations(group, 2)}


def score(planted: set[Link], found: set[Link]) -> Score:
    """Of pairs."""
    return Score(len(planted), len(found), len(planted & found))
