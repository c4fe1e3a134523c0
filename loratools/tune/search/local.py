"""A random local search on a model's predictions, which cost next to nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from loratools.tune.arrays import Array
from loratools.tune.problem.space import Space
from loratools.tune.search.model import Model

Mask = npt.NDArray[np.bool_]

_ROUNDS, _TRIES = 40, 150
_LEAST_REACH = 0.02
_NEAR = 0.05  # cost of moving every block by 1: of two vectors that are as good, the one nearer to the start


@dataclass(frozen=True)
class Search:
    """The search.

    Attributes:
        caution: standard deviations by which predictions are taken to be worse than is likely.
    """

    model: Model
    space: Space
    random: np.random.Generator
    caution: float

    def total(self, points: Array) -> Array:
        """What is minimised (n,)."""
        far = np.abs(points - self.space.start).mean(1)
        totals: Array = self.model.total(points, self.caution) + _NEAR * far
        return totals

    def best(self, points: Array, free: Mask, rounds: int = _ROUNDS, reach: float = 0.25) -> tuple[Array, float]:
        """The best vector near those of ``points``, and its total; only blocks that are ``free`` leave their start."""
        start, width = self.space.start, self.space.width
        known = np.where(free, points, start)
        totals = self.total(known)
        best: Array = known[totals.argmin()]
        least = float(totals.min())
        for _ in range(rounds):
            moved = (self.random.random((_TRIES, len(start))) < max(0.3, 1.5 / max(1, free.sum()))) & free
            tries = best + moved * self.random.standard_normal((_TRIES, len(start))) * reach * width
            tries = np.clip(tries, self.space.low, self.space.high)
            totals = self.total(tries)
            if totals.min() < least:
                best, least = tries[totals.argmin()], float(totals.min())
            else:
                reach = max(_LEAST_REACH, reach * 0.8)
        return best, least
