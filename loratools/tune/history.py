"""What a search has seen: vectors, the pictures that were drawn with them, and what the measures said of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from loratools.tune.arrays import Array
from loratools.tune.problem.goals import Goals


@dataclass(frozen=True)
class Samples:
    """What is known of one measure.

    Attributes:
        points: (n, d), the block weights less those that the search starts from.
        means: (n,), over each point's own pictures, less what these pictures are above all shots' whatever the vector.
        shares: (n, pictures), each row the pictures' shares of that mean, which sum to 1.
        picture_variance: how much a picture's place above the mean over all shots differs from vector to vector.
    """

    points: Array
    means: Array
    shares: Array
    picture_variance: float


@dataclass(frozen=True)
class Generation:
    """Vectors that were drawn for the same shots.

    Attributes:
        kind: ``whole`` (the stack as it was given), ``ladder`` (plain strengths), ``screening``, ``search``, ``check``.
        points: each with as many numbers as the space has dimensions.
        shots: which of the pool's shots.
        values: measure -> for each point the value of each shot; NaN where the measure cannot tell.
        seconds: that drawing and measuring took.
    """

    kind: str
    points: tuple[tuple[float, ...], ...]
    shots: tuple[int, ...]
    values: Mapping[str, tuple[tuple[float, ...], ...]]
    seconds: float = 0.0

    @property
    def pictures(self) -> int:
        """How many pictures were drawn."""
        return len(self.points) * len(self.shots)

    def of_point(self, number: int) -> dict[str, tuple[float, ...]]:
        """Measure -> the value of each shot, of one point."""
        return {name: rows[number] for name, rows in self.values.items()}


@dataclass(frozen=True)
class History:
    """All generations so far; ``pool`` is the number of shots that there are."""

    generations: tuple[Generation, ...]
    pool: int

    def __len__(self) -> int:
        return len(self.generations)

    @property
    def pictures(self) -> int:
        """How many pictures were drawn."""
        return sum(generation.pictures for generation in self.generations)

    def count(self, kind: str) -> int:
        """How many points of a kind of generation were drawn."""
        return sum(len(generation.points) for generation in self.generations if generation.kind == kind)

    def cost_samples(self, goals: Goals, start: Array) -> Samples:
        """What is known of the cost."""
        return self._samples(start, [goals.cost(own) for own in self._values()])

    def worth_samples(self, goals: Goals, start: Array) -> list[Samples]:
        """What is known of each constraint."""
        values = self._values()
        return [self._samples(start, [each.worth(own[each.name]) for own in values]) for each in goals.constraints]

    def points(self) -> Array:
        """Every point that was drawn (n, d), in order."""
        return np.array([point for generation in self.generations for point in generation.points])

    def means_on_pool(self, goals: Goals) -> list[tuple[Array, float, list[float]]]:
        """Of the points that were drawn for the whole pool: the point, its cost, and its worth by each constraint."""
        known = []
        for generation in self.generations:
            if len(generation.shots) != self.pool:
                continue
            for number, point in enumerate(generation.points):
                own = generation.of_point(number)
                worths = [float(np.nanmean(each.worth(own[each.name]))) for each in goals.constraints]
                known.append((np.array(point), float(np.nanmean(goals.cost(own))), worths))
        return known

    def _values(self) -> list[dict[str, tuple[float, ...]]]:
        return [one.of_point(number) for one in self.generations for number in range(len(one.points))]

    def _samples(self, start: Array, values: Sequence[Array]) -> Samples:
        """The means of ``values``, one row of them for each point; points of which nothing is known are left out."""
        shots = [generation.shots for generation in self.generations for _ in generation.points]
        effects, left = _picture_effects(
            [own for own, drawn in zip(values, shots, strict=True) if len(drawn) == self.pool]
        )
        points, means, shares = [], [], []
        for point, own, drawn in zip(self.points(), values, shots, strict=True):
            known = ~np.isnan(own)
            if not known.any():
                continue
            share = np.zeros(self.pool)
            share[np.array(drawn)[known]] = 1 / known.sum()
            points.append(point - start)
            means.append(float(own[known].mean()) - float(share @ effects))
            shares.append(share)
        return Samples(np.array(points), np.array(means), np.array(shares), left)


def _picture_effects(rows: Sequence[Array]) -> tuple[Array, float]:
    """How much each shot's value lies above the mean over all, whatever the vector: (pool,); and the variance of what
    this leaves, since shots do not answer to all vectors alike.

    Args:
        rows: the values of points that were drawn for all shots.
    """
    whole = np.stack(rows)
    known = ~np.isnan(whole)
    filled = np.where(known, whole, 0.0)
    counts = known.sum(1, keepdims=True)
    above = np.where(known, whole - filled.sum(1, keepdims=True) / np.maximum(counts, 1), 0.0)
    effects = above.sum(0) / np.maximum(known.sum(0), 1)
    left = np.where(known, above - effects, 0.0)
    return effects, float((left**2).sum() / max(1, known.sum()))
