"""Figures of a run's epochs on the same prompts, seeds and noise, and what one epoch leads another by."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Protocol

import numpy as np

from loratools.measures.estimate import Estimate, Values, estimate, paired_difference
from loratools.measures.measure import Better

_LEVEL = 0.05  # chance that any of the epochs that equal the best is called worse by a figure


class Ranking(Protocol):
    """Something that says how much better one epoch is than another; epochs are indices from 0."""

    @property
    def name(self) -> str:
        """As a table's column is headed."""
        ...

    def score(self, epoch: int) -> float:
        """The more the better."""
        ...

    def lead(self, one: int, two: int) -> Estimate:
        """By how much ``one`` is better than ``two``; below 0 where it is worse."""
        ...


@dataclass(frozen=True, eq=False)
class Figure:
    """One measure of every epoch's pictures.

    Attributes:
        values: (epochs, n), NaN where the measure cannot tell; every row is of the same prompts and seeds in one order.
        base: (n,) of the base's own pictures; None for what the base does not have.
        prompts, seeds: of each of the n, by which standard errors know what is alike.
    """

    name: str
    better: Better
    values: Values
    base: Values | None
    prompts: tuple[Hashable, ...]
    seeds: tuple[Hashable, ...]

    def own(self, epoch: int) -> Estimate:
        """The epoch's own mean."""
        return estimate(self.values[epoch], self.prompts, self.seeds)

    def of_base(self) -> Estimate | None:
        """The base's mean."""
        return None if self.base is None else estimate(self.base, self.prompts, self.seeds)

    def from_base(self, epoch: int) -> Estimate | None:
        """Epoch minus base, picture by picture."""
        return None if self.base is None else paired_difference(self.values[epoch], self.base, self.prompts, self.seeds)

    def difference(self, one: int, two: int) -> Estimate:
        """Epoch ``one`` minus epoch ``two``, picture by picture."""
        return paired_difference(self.values[one], self.values[two], self.prompts, self.seeds)

    def spread(self, epochs: Sequence[int]) -> float:
        """The standard deviation over the pictures of an epoch, of all ``epochs`` together."""
        return float(np.sqrt(np.nanmean(np.nanvar(self.values[list(epochs)], axis=1))))

    def score(self, epoch: int) -> float:
        mean = float(np.nanmean(self.values[epoch]))
        return mean if self.better == "higher" else -mean

    def lead(self, one: int, two: int) -> Estimate:
        return self.difference(one, two) if self.better == "higher" else self.difference(two, one)

    def loss_from_base(self, epoch: int) -> Estimate | None:
        """By how much the epoch is worse than the base."""
        difference = self.from_base(epoch)
        if difference is None or self.better == "lower":
            return difference
        return Estimate(-difference.mean, difference.standard_error, difference.n)


def leader(ranking: Ranking, epochs: Sequence[int]) -> int:
    """The best of ``epochs``; of equals the earliest."""
    return max(epochs, key=lambda epoch: (ranking.score(epoch), -epoch))


def clearly(difference: Estimate, comparisons: int = 1) -> bool:
    """Whether a difference is above 0 by more than noise.

    The limit is one-sided and shared out among the ``comparisons`` that are made (Bonferroni): the more epochs a run
    has, the more it takes to call one of them worse. Without a standard error nothing is clear.
    """
    error = difference.standard_error
    if math.isnan(error):
        return False
    return difference.mean > 0 and difference.mean > limit(comparisons) * error


def limit(comparisons: int = 1) -> float:
    """Standard errors beyond which a difference counts among so many that are looked at."""
    return NormalDist().inv_cdf(1 - _LEVEL / max(1, comparisons))
