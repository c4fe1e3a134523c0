"""From a descent to vectors worth comparing: where it settled, and simpler and milder ones on the way there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from loratools.tune.arrays import Array
from loratools.tune.descent.steps import Step, settled
from loratools.tune.problem.space import Space
from loratools.tune.search.finalists import Finalists
from loratools.tune.search.simpler import rounded

_EARLIER = 0.6  # share of the steps after which it may have settled already
_MILDER = 0.85  # of the way from the start
_SMALL = (0.12, 0.2, 0.3, 0.4)  # of a dimension's width: numbers that moved less are put back
_WAYS = (0.65, 1.15, 1.3)  # of the way from the start, which the second round tries: beyond its end too


def descent_answers(steps: Sequence[Step], space: Space) -> list[Array]:
    """Vectors for a first comparison, the boldest first; rounded to what a person would write."""
    end = settled(steps)
    points = [end, _simpler(end, space, _SMALL[0]), _simpler(end, space, _SMALL[1])]
    points += [_towards(end, space, _MILDER), settled(steps, _EARLIER)]
    return [rounded(np.clip(point, space.low, space.high), space) for point in points]


def further_answers(steps: Sequence[Step], space: Space, known: Finalists) -> list[Array]:
    """Vectors for a second one: milder and bolder than where the descent settled, and simpler still.

    Args:
        known: what the first comparison has, so that nothing in it is drawn twice.
    """
    end = settled(steps)
    points = [_towards(end, space, way) for way in _WAYS]
    points += [_simpler(end, space, small) for small in _SMALL[2:]]
    return known.new([rounded(np.clip(point, space.low, space.high), space) for point in points])


def _towards(point: Array, space: Space, way: float) -> Array:
    return np.asarray(space.start + way * (point - space.start))


def _simpler(point: Array, space: Space, least: float) -> Array:
    """``point`` without the moves that are smaller than a share of each dimension's width."""
    moved = np.abs(point - space.start) >= least * space.width
    return np.where(moved, point, space.start)
