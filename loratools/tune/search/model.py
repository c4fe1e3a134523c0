"""What the data say of vectors: one Gaussian process for the cost and one for each constraint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from loratools.tune.arrays import Array
from loratools.tune.history import History
from loratools.tune.problem.goals import STYLE, Goals
from loratools.tune.problem.space import Space
from loratools.tune.search.gaussian_process import GaussianProcess

_DOWN = 0.5  # how far a block is lowered to see what it does
_CLEAR = 1.0  # standard deviations of an effect that count as one


@dataclass(frozen=True)
class Model:
    """Predictions of the means over pictures that nobody has drawn.

    Attributes:
        cost: of :meth:`.goals.Goals.cost`.
        worths: of each constraint.
    """

    goals: Goals
    space: Space
    cost: GaussianProcess
    worths: tuple[GaussianProcess, ...]

    @staticmethod
    def of(history: History, goals: Goals, space: Space) -> Model:
        """Fitted to all that was drawn."""
        worths = tuple(GaussianProcess(samples) for samples in history.worth_samples(goals, space.start))
        return Model(goals, space, GaussianProcess(history.cost_samples(goals, space.start)), worths)

    def total(self, points: Array, caution: float = 0.0) -> Array:
        """What is minimised (n,), with the style ``caution`` standard deviations worse than is likely and the cost half
        as many; of other constraints, which allow for noise, what is likely counts."""
        moved = points - self.space.start
        cost = self.cost.quantile(moved, caution / 2)
        cautions = [caution if each.name == STYLE else 0.0 for each in self.goals.constraints]
        worths = [each.quantile(moved, -own) for each, own in zip(self.worths, cautions, strict=True)]
        return self.goals.total(cost, worths)

    def sample(self, points: Array, count: int, random: np.random.Generator) -> tuple[Array, Sequence[Array]]:
        """``count`` costs and worths that the data allow, at ``points``: (n, count) each."""
        moved = points - self.space.start
        return self.cost.sample(moved, count, random), [each.sample(moved, count, random) for each in self.worths]

    def effects(self) -> dict[str, tuple[Array, Array]]:
        """What lowering each block by a half does to the cost and to each constraint: mean and standard deviation (d,),
        by ``cost`` or the constraint's name. A number that begins at its least value is raised instead."""
        size = len(self.space.start)
        down = np.where(self.space.start > self.space.low, -_DOWN, _DOWN)
        lowered = np.diag(down)
        names = ["cost", *(each.name for each in self.goals.constraints)]
        return {
            name: process.difference(lowered, np.zeros(size))
            for name, process in zip(names, (self.cost, *self.worths), strict=True)
        }

    @cached_property
    def matters(self) -> npt.NDArray[np.bool_]:
        """Which blocks (d,) clearly do anything."""
        clear = [np.abs(mean) > _CLEAR * deviation for mean, deviation in self.effects().values()]
        some = np.any(clear, axis=0)
        return some if some.any() else np.ones_like(some)
