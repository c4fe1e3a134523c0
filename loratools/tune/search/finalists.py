"""The last choice: a few good vectors, drawn for pictures that no model was fitted to.

What a search thinks best is best for the pictures that it saw. Of the same prompts under other seeds each finalist, the
whole LoRA and plain strength are drawn, and compared picture by picture. The style has to be kept by the lower end of
what such a difference says, so that it is on pictures that nobody has seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from loratools.measures.estimate import paired_difference
from loratools.tune.arrays import Array
from loratools.tune.history import Generation
from loratools.tune.problem.goals import STYLE, Constraint, Goals
from loratools.tune.problem.prompts import Shot
from loratools.tune.problem.space import Space
from loratools.tune.search.answer import LOSS, fewest_moved
from loratools.tune.search.model import Model

SURE = 1.0  # standard errors that the style is above its bound
_NEAR = 0.02  # above a bound: what is kept by more does not count for vectors nearer to it

Values = Mapping[str, Sequence[float]]


@dataclass(frozen=True, eq=False)
class Finalists:
    """Vectors that were drawn for the same fresh ``shots``.

    Attributes:
        points: (n, d), the first of them the whole LoRA.
        values: of each, measure -> the value of each shot; ``base`` of the base.
        pictures: that were drawn for all this.
    """

    shots: tuple[Shot, ...]
    points: Array = field(default_factory=lambda: np.zeros((0, 0)))
    values: tuple[Values, ...] = ()
    base: Values = field(default_factory=dict)
    pictures: int = 0

    def __len__(self) -> int:
        return len(self.values)

    def new(self, points: Sequence[Array]) -> list[Array]:
        """Those of ``points`` that are not among these, each once."""
        known = [tuple(point) for point in self.points]
        return [np.array(point) for point in dict.fromkeys(map(tuple, points)) if point not in known]

    def joined(self, drawn: Generation, points: Sequence[Array]) -> Finalists:
        """These and the ``points`` of a generation; the first one begins with the base, which is not among them."""
        more = [drawn.of_point(number) for number in range(len(drawn.points))]
        base = self.base if self.values else more.pop(0)
        every = np.array([*self.points, *points])
        return replace(
            self, points=every, values=(*self.values, *more), base=base, pictures=self.pictures + drawn.pictures
        )

    def totals(self, goals: Goals) -> Array:
        """What is minimised (n,), as in :meth:`.goals.Goals.total`.

        Args:
            goals: made of the base's and the whole LoRA's pictures of the same shots.
        """
        cost = np.array([float(np.nanmean(goals.cost(values))) for values in self.values])
        return goals.total(cost, [self._worths(each) for each in goals.constraints])

    def best(self, goals: Goals, plain: Array, space: Space) -> Array:
        """The best of all; the whole LoRA or ``plain`` strength, which are simpler than any vector, where nothing is
        better than these by more than :data:`.answer.LOSS`."""
        totals = self.totals(goals)
        is_plain = (self.points == plain).all(1) | (np.arange(len(self)) == 0)
        found = np.flatnonzero(~is_plain)
        if not len(found) or totals[found].min() >= totals[is_plain].min() - LOSS:
            best: Array = self.points[is_plain][totals[is_plain].argmin()]
        else:
            first = found[totals[found].argmin()]
            noise = [self._noise(goals, int(number), int(first)) for number in found]
            best = self.points[found][fewest_moved(self.points[found], totals[found], space, noise)]
        return best

    def _noise(self, goals: Goals, one: int, other: int) -> float:
        """The standard error of the difference of two vectors' costs; infinite where nothing tells it."""
        cost, least = goals.cost(self.values[one]), goals.cost(self.values[other])
        error = paired_difference(cost, least, self._prompts, self._seeds).standard_error
        return float("inf") if np.isnan(error) else error

    @property
    def _prompts(self) -> list[str]:
        return [shot.prompt for shot in self.shots]

    @property
    def _seeds(self) -> list[int]:
        return [shot.seed for shot in self.shots]

    def stricter(self, model: Model, goals: Goals) -> Model:
        """``model``, for a search of vectors that keep what these pictures say that it takes for kept in vain."""
        moved = self.points[1:] - model.space.start
        constraints = []
        for process, here in zip(model.worths, goals.constraints, strict=True):
            missed = np.maximum(0.0, np.minimum(process.mean(moved), _NEAR) - self._worths(here)[1:])
            constraints.append(float(np.median(missed)))
        return replace(model, spared=tuple(constraints))

    def _worths(self, constraint: Constraint) -> Array:
        """How far each vector is above a bound (n,); of the style, at the lower end of what is known."""
        before = constraint.worth(self.values[0][constraint.name])
        worths = []
        for values in self.values:
            own = constraint.worth(values[constraint.name])
            error = paired_difference(own, before, self._prompts, self._seeds).standard_error
            spare = SURE * float(np.nan_to_num(error)) if constraint.name == STYLE else 0.0
            worths.append(float(np.nanmean(own)) - spare)
        return np.array(worths)
