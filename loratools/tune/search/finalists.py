"""The last choice after a descent, which has no model: a few good vectors, drawn for pictures that it had not.

What a search thinks best is best for the pictures that it saw. Of other prompts, or the same under other seeds, each
finalist, the whole LoRA and plain strength are drawn, and compared picture by picture. The style has to be kept by
the lower end of what such a difference says, so that it is on pictures that nobody has seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from loratools.measures.estimate import paired_difference
from loratools.measures.measure import Better
from loratools.tune.arrays import Array
from loratools.tune.history import Generation
from loratools.tune.problem.goals import STYLE, Constraint, Goals
from loratools.tune.problem.prompts import Shot
from loratools.tune.problem.space import Space
from loratools.tune.search.answer import LOSS, fewest_moved

SURE = 1.0  # standard errors that the style is above its bound

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

    def best(self, goals: Goals, plain: Array, space: Space, checks: Mapping[str, Better] | None = None) -> Array:
        """The best of all; the whole LoRA or ``plain`` strength, which are simpler than any vector, where nothing is
        better than these by more than :data:`.answer.LOSS`.

        Args:
            checks: measures that led nothing, and which way is better: a vector that is not better by these too has
                fooled what led to it. Where no vector is, the best one is taken all the same, for the report to say so.
        """
        totals = self.totals(goals)
        is_plain = (self.points == plain).all(1) | (np.arange(len(self)) == 0)
        found = np.flatnonzero(~is_plain)
        simple = int(np.where(is_plain, totals, np.inf).argmin())
        seen = [number for number in found if self._is_seen(int(number), simple, checks or {})]
        found = np.array(seen) if seen else found
        if not len(found) or totals[found].min() >= totals[simple] - LOSS:
            best: Array = self.points[simple]
        else:
            first = found[totals[found].argmin()]
            noise = np.array([self._noise(goals, int(number), int(first)) for number in found])
            best = self.points[found][fewest_moved(self.points[found], totals[found], space, noise)]
        return best

    def _is_seen(self, one: int, other: int, checks: Mapping[str, Better]) -> bool:
        """Whether a vector is better than another one by every measure that led nothing, by more than an error."""
        for name, better in checks.items():
            own, before = np.array(self.values[one][name]), np.array(self.values[other][name])
            gain = paired_difference(before, own, self._prompts, self._seeds)
            mean = gain.mean if better == "lower" else -gain.mean
            if not mean > SURE * np.nan_to_num(gain.standard_error):
                return False
        return True

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
