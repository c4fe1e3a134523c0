"""From a vector to readable ones: fewer and fewer blocks leave their start, and each step says what it costs.

This is backward elimination (Hastie, Tibshirani and Friedman 2009, The Elements of Statistical Learning, 3.3.2) under
the search's model: of the blocks that still move, the one that is missed least is put back where the stack had it, and
the others make up for it as far as they can. How far to go is decided by what is lost, which the model only guesses and
pictures tell.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from loratools.tune.arrays import Array
from loratools.tune.problem.space import Space
from loratools.tune.search.local import Mask, Search

_ROUNDS, _REACH = 12, 0.08  # of the local search by which the others make up for a block
_TRIED = 3  # blocks of each step that are tried; those that are missed least if nothing makes up for them
STEP = 0.05  # that written weights are multiples of


@dataclass(frozen=True, eq=False)
class Simpler:
    """A vector in which at most ``free`` blocks leave their start.

    Attributes:
        total: what the model expects of it, see :meth:`.goals.Goals.total`.
    """

    point: Array
    free: int
    total: float


def simpler_vectors(search: Search, point: Array, loss: float) -> list[Simpler]:
    """``point`` and vectors that move ever fewer blocks, each as good as the model finds, until one has lost more than
    ``loss``."""
    free: Mask = np.ones(len(point), dtype=bool)
    path = [Simpler(point, len(point), float(search.total(point[None])[0]))]
    while free.sum() > 1 and path[-1].total <= min(one.total for one in path) + loss:
        tries = [
            (search.best(path[-1].point[None], fewer, _ROUNDS, _REACH), fewer)
            for fewer in _without_one(search, free, path[-1].point)
        ]
        (other, total), free = min(tries, key=lambda one: one[0][1])
        path.append(Simpler(other, int(free.sum()), total))
    return path


def simplest(path: Sequence[Simpler], loss: float) -> Array:
    """The vector of the fewest free blocks whose total is at most ``loss`` above the least."""
    least = min(one.total for one in path)
    return min((one for one in path if one.total <= least + loss), key=lambda one: one.free).point


def rounded(point: Array, space: Space) -> Array:
    """In steps of :data:`STEP`, as a person would write it; a start that is no such step stays what it is."""
    steps = np.where(np.isclose(point, space.start), space.start, np.round(point / STEP) * STEP)
    written: Array = np.round(np.clip(steps, space.low, space.high), 10)
    return written


def _without_one(search: Search, free: Mask, point: Array) -> Iterator[Mask]:
    """``free`` without one block, for the few blocks that are missed least if nothing makes up for them."""
    moved = np.flatnonzero(free)
    tries = np.repeat(point[None], len(moved), axis=0)
    tries[np.arange(len(moved)), moved] = search.space.start[moved]
    for index in np.argsort(search.total(tries))[:_TRIED]:
        fewer = free.copy()
        fewer[moved[index]] = False
        yield fewer
