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
        means: (n,), over each point's own pictures, less what the same pictures of the stack as it was given are above
            the mean of all of these.
        shares: (n, pictures), each row the pictures' shares of that mean, which sum to 1.
    """

    points: Array
    means: Array
    shares: Array


@dataclass(frozen=True)
class Generation:
    """Vectors that were drawn for the same shots.

    Attributes:
        kind: ``whole`` (the stack as it was given), ``ladder`` (plain strengths), ``screening``, ``search``, ``check``,
            ``fresh`` (finalists, for shots that the search had not).
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
    """All generations so far; ``pool`` is the number of shots that there are, those of the search first."""

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

    def on_shots(self, kind: str, shots: Sequence[int]) -> list[dict[str, list[float]]]:
        """Of each point of the generations of a kind: measure -> the values of those of its shots that are in
        ``shots``."""
        wanted = set(shots)
        return [
            {
                name: [value for value, shot in zip(row, generation.shots, strict=True) if shot in wanted]
                for name, row in generation.of_point(number).items()
            }
            for generation in self.generations
            if generation.kind == kind
            for number in range(len(generation.points))
        ]

    def _values(self) -> list[dict[str, tuple[float, ...]]]:
        return [one.of_point(number) for one in self.generations for number in range(len(one.points))]

    def _samples(self, start: Array, values: Sequence[Array]) -> Samples:
        """The means of ``values``, one row of them for each point; points of which nothing is known are left out."""
        shots = [np.array(generation.shots) for generation in self.generations for _ in generation.points]
        every = self.points()
        above = self._above(every, start, shots, values)
        points, means, shares = [], [], []
        for point, own, drawn in zip(every, values, shots, strict=True):
            known = ~np.isnan(own)
            if not known.any():
                continue
            share = np.zeros(self.pool)
            share[drawn[known]] = 1 / known.sum()
            points.append(point - start)
            means.append(float(own[known].mean()) - float(share @ above))
            shares.append(share)
        return Samples(np.array(points), np.array(means), np.array(shares))

    def _above(self, points: Array, start: Array, shots: Sequence[Array], values: Sequence[Array]) -> Array:
        """How far each shot of the stack as it was given lies above the mean over the first generation's (pool,), which
        the search's goals are made of; 0 where it was not drawn."""
        wholes = np.full(self.pool, np.nan)
        for point, drawn, own in zip(points, shots, values, strict=True):
            if np.allclose(point, start, atol=1e-3):
                wholes[drawn] = own
        middle = np.nanmean(wholes[shots[0]])
        return np.where(np.isnan(wholes), 0.0, wholes - middle)
