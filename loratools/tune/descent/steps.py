"""Where a descent stands: each step's point, gradient and figures, from which the next point follows.

The steps are all there is to keep: a descent that was stopped is rebuilt from them, number for number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from loratools.tune.arrays import Array
from loratools.tune.problem.space import Space

_FIRST, _SECOND, _TINY = 0.85, 0.98, 1e-8  # of Adam (Kingma and Ba 2015), which forget sooner than is usual
_RATE = 0.06  # of a dimension's width that a step moves it by
_LEVEL = 0.5  # share of the steps after which they become smaller,
_LEAST = 0.1  # down to this share of the rate
_WIDTH = 1.4
_LONGEST = 3.0  # a gradient that is longer is cut to this, so that one odd batch does not lead
_SMOOTH = 0.85  # of the running means of what pictures are worth
_TAIL = 0.25  # share of the steps, the last, whose points are averaged


@dataclass(frozen=True)
class Step:
    """One batch of pictures.

    Attributes:
        point: that they were drawn at, (d,).
        gradient: (d,) of the objective there.
        values: the mean of each measure's stand-in over the batch's pictures of which it can tell; without those of
            which it tells nothing.
        seconds: that it took.
    """

    point: tuple[float, ...]
    gradient: tuple[float, ...]
    values: Mapping[str, float]
    seconds: float = 0.0


@dataclass(frozen=True)
class Plan:
    """How a descent goes.

    Attributes:
        steps: at most.
        shots: pictures a step.
        cost: of one of them, in pictures without a gradient.
    """

    steps: int
    shots: int
    cost: int = 1

    @property
    def pictures(self) -> int:
        """That are drawn in all."""
        return self.steps * self.shots


def next_point(steps: Sequence[Step], space: Space, plan: Plan) -> Array:
    """The point that follows ``steps``; the start where there are none. Adam with steps that shrink towards the end."""
    point = np.array(space.start, dtype=np.float64)
    first, second = np.zeros_like(point), np.zeros_like(point)
    for number, step in enumerate(steps, start=1):
        gradient = _cut(np.array(step.gradient))
        first = _FIRST * first + (1 - _FIRST) * gradient
        second = _SECOND * second + (1 - _SECOND) * gradient**2
        mean, spread = first / (1 - _FIRST**number), np.sqrt(second / (1 - _SECOND**number))
        rate = _rate(number / plan.steps) * space.width / _WIDTH
        point = np.clip(np.array(step.point) - rate * mean / (spread + _TINY), space.low, space.high)
    return point


def running_means(steps: Sequence[Step], start: Mapping[str, float]) -> dict[str, float]:
    """What the last pictures are worth, by measure, with less noise than one batch has.

    Args:
        start: of the whole LoRA, before any step.
    """
    means = dict(start)
    for step in steps:
        means = {name: _SMOOTH * own + (1 - _SMOOTH) * step.values.get(name, own) for name, own in means.items()}
    return means


def settled(steps: Sequence[Step], share: float = 1.0) -> Array:
    """The mean point of the last of the first ``share`` of the steps: points around it differ by noise."""
    reached = steps[: max(1, round(share * len(steps)))]
    tail = reached[-max(1, round(_TAIL * len(reached))) :]
    mean: Array = np.mean([step.point for step in tail], axis=0)
    return mean


def _cut(gradient: Array) -> Array:
    length = float(np.linalg.norm(gradient))
    return gradient if length <= _LONGEST else gradient * (_LONGEST / length)


def _rate(done: float) -> float:
    """The rate after a share of the steps."""
    return _RATE if done < _LEVEL else _RATE * (1 - (1 - _LEAST) * min(1.0, (done - _LEVEL) / (1 - _LEVEL)))
