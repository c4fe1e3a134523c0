"""The best that plain strength can do: the whole stack, weaker, where the defect is least and the style still kept."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from loratools.tune.arrays import Array
from loratools.tune.history import History
from loratools.tune.problem.goals import Goals

_STEP = 0.02


def best_strength(history: History, goals: Goals, strengths: Sequence[float]) -> float:
    """The strength of the least cost that keeps every constraint, between those that were drawn too; 1 if none does.

    Args:
        strengths: those of the ladder, which are drawn for some of the whole stack's shots.
    """
    shots = [shot for one in history.generations if one.kind == "ladder" for shot in one.shots]
    drawn = [*history.on_shots("whole", shots or history.generations[0].shots), *history.on_shots("ladder", shots)]
    at = np.array([1.0, *strengths])[: len(drawn)]
    order = np.argsort(at)
    costs = np.array([float(np.nanmean(goals.cost(own))) for own in drawn])[order]
    worths = np.array([[float(np.nanmean(each.worth(own[each.name]))) for each in goals.constraints] for own in drawn])
    worths = worths.reshape(len(drawn), len(goals.constraints))[order]
    tried = np.arange(at.min(), 1.0 + _STEP / 2, _STEP)
    cost = np.interp(tried, at[order], costs)
    kept = np.all([np.interp(tried, at[order], column) >= 0 for column in worths.T] or [np.ones_like(tried)], axis=0)
    kept[-1] = True
    return round(float(tried[np.where(kept, cost, np.inf).argmin()]), 2)


def strength_of(point: Array, start: Array) -> float | None:
    """The strength that ``point`` is of, if it is a plain one."""
    moved = np.abs(start) > 1e-9
    if not moved.any():
        return None
    ratios = point[moved] / start[moved]
    plain = np.allclose(ratios, ratios[0]) and np.allclose(point[~moved], 0)
    return float(ratios[0]) if plain else None
