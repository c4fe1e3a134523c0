"""From what was seen to one vector: the best by the model, with blocks that do not matter left as they were."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from loratools.tune.arrays import Array
from loratools.tune.history import History
from loratools.tune.problem.space import Space
from loratools.tune.search.model import Model

Mask = npt.NDArray[np.bool_]

_ROUNDS, _FEW_ROUNDS, _TRIES = 40, 12, 150
_LEAST_REACH = 0.02
_CAUTION = 0.5  # standard deviations, while searching
_NEAR = 0.05  # cost of moving every block by 1: of two vectors that are as good, the one nearer to the start
_IDLE = 0.01  # of the whole excess: leaving one more block as it was may cost as much,
_IDLE_IN_ALL = 0.08  # and leaving all that are left so
CAUTIONS = (0.5, 1.5)  # of the answers that are drawn for the pool and compared,
FINAL_CAUTIONS = (0.3, 1.0, 2.0, 3.0)  # and of those between which fresh pictures choose


@dataclass(frozen=True)
class Search:
    """A random local search on a model's predictions, which cost next to nothing.

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


def best_point(
    model: Model, history: History, space: Space, random: np.random.Generator, caution: float = _CAUTION
) -> Array:
    """The vector of the least expected total, whatever blocks it moves."""
    everything = np.ones(len(space.start), dtype=bool)
    return Search(model, space, random, caution).best(history.points(), everything)[0]


def readable(search: Search, history: History) -> Array:
    """The best vector in which as few blocks as can be leave their start, rounded to 0.05.

    Blocks that do nothing that can be told from noise stay. Of the others they are put back one by one, the one that is
    missed least first; what is left makes up for it. It ends where one would cost a hundredth of the whole excess, or
    all together a twelfth.
    """
    free: Mask = search.model.matters.copy()
    point, first = search.best(history.points(), free)
    total = first
    while free.sum() > 1:
        tries = [
            (search.best(point[None], fewer, _FEW_ROUNDS, 0.08), fewer) for fewer in _without_one(search, free, point)
        ]
        (other, cost), fewer = min(tries, key=lambda one: one[0][1])
        if cost > min(total + _IDLE, first + _IDLE_IN_ALL):
            break
        point, total, free = other, min(cost, total), fewer
    steps = np.where(free, np.round(point * 20) / 20, search.space.start)
    rounded: Array = np.clip(steps, search.space.low, search.space.high)
    return rounded


def _without_one(search: Search, free: Mask, point: Array, count: int = 3) -> Iterator[Mask]:
    """``free`` without one block, for the few blocks that are missed least if nothing makes up for them."""
    moved = np.flatnonzero(free)
    tries = np.repeat(point[None], len(moved), axis=0)
    tries[np.arange(len(moved)), moved] = search.space.start[moved]
    for index in np.argsort(search.total(tries))[:count]:
        fewer = free.copy()
        fewer[moved[index]] = False
        yield fewer


def answers(
    model: Model, history: History, space: Space, random: np.random.Generator, cautions: Sequence[float] = CAUTIONS
) -> list[Array]:
    """Vectors worth drawing for many shots, each once: one that moves as few blocks as can be, and the best, whatever
    they move, by several cautions."""
    everything = np.ones(len(space.start), dtype=bool)
    chosen = [readable(Search(model, space, random, cautions[len(cautions) // 2]), history)]
    for caution in cautions:
        point, _ = Search(model, space, random, caution).best(history.points(), everything)
        chosen.append(np.clip(np.round(point * 20) / 20, space.low, space.high))
    return [
        one for number, one in enumerate(chosen) if not any(np.array_equal(one, other) for other in chosen[:number])
    ]


def chosen_answer(points: Array, model: Model, space: Space) -> Array:
    """Of vectors that were drawn for every shot: the best, or one that moves fewer blocks and is nearly as good."""
    return np.asarray(points[fewest_moved(points, model.total(points, _CAUTION), space)], dtype=np.float64)


def fewest_moved(points: Array, totals: Array, space: Space) -> int:
    """The index of the least of ``totals`` (n,), or of a vector that is nearly as good and moves fewer blocks."""
    moved = (~np.isclose(points, space.start)).sum(1)
    near = totals <= totals.min() + _IDLE_IN_ALL
    return int(np.where(near, moved * 1e3 + totals, np.inf).argmin())
