"""The search itself: which vectors to draw next, given what was seen; every choice follows from the seed.

A generation is chosen by Thompson sampling within constraints (Eriksson and Poloczek 2021, Scalable Constrained
Bayesian Optimization): each of its vectors is the best one of a function that the data still allow, among candidates
around the best vectors so far: bold ones, which take what is likeliest for true, and cautious ones. Pictures are dear
and vectors' effects smooth, so this needs far fewer pictures than an evolution strategy: on synthetic LoRAs some 440
did what CMA-ES did with 5,200. The two were not run on the same trained LoRA.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from loratools.tune.arrays import Array
from loratools.tune.history import History
from loratools.tune.problem.effort import Effort
from loratools.tune.problem.goals import Goals
from loratools.tune.problem.space import Space
from loratools.tune.search.answer import best_point
from loratools.tune.search.model import Model
from loratools.tune.search.screening import screening_points

_CANDIDATES = 480
_CENTERS = (0.0, 0.5, 1.0)  # cautions of the vectors around which candidates lie
_REACHES = (0.08, 0.2, 0.45)  # standard deviations of a candidate around the best vector, of the range,
_NARROWED = 0.7  # and by how much of that less at the end of the search
_FEW, _MANY = 0.3, 0.9  # shares of the blocks that matter that a candidate changes
_IDLE = 0.12  # the chance that a block that does not seem to matter is changed as well
_SCALED = 0.25  # the chance that all blocks are made stronger or weaker at once,
_SCALE = 0.12  # by so much, as a standard deviation of the factor's logarithm


@dataclass(frozen=True)
class Ask:
    """A generation to be drawn."""

    kind: str
    points: tuple[tuple[float, ...], ...]
    shots: tuple[int, ...]


@dataclass(frozen=True)
class Strategy:
    """Says what to draw next; it holds no state, so that a search that was stopped goes on as it would have."""

    space: Space
    effort: Effort
    pool: int
    seed: int

    @property
    def whole(self) -> tuple[float, ...]:
        """The stack as it was given, as a point of a generation."""
        return as_tuple(self.space.start)

    def ladder(self) -> Ask:
        """Plain strengths of the stack."""
        points = [self.space.at_strength(strength) for strength in self.effort.strengths]
        return self._ask("ladder", points, self._many(0))

    def next(self, history: History, goals: Goals) -> Ask | None:
        """The next generation of the screening or the search; None once all are drawn."""
        screened = history.count("screening")
        if screened < self.effort.screening:
            points = screening_points(self.space, self.effort.screening, self._random("screening", 0))
            return self._ask("screening", points[screened : screened + self.effort.population], self._shots(history))
        if history.count("search") >= self.effort.generations * self.effort.population:
            return None
        return self._ask("search", self._sampled(history, goals), self._shots(history))

    def check(self, points: list[Array], number: int) -> Ask:
        """Answers, for many shots; every round for others."""
        return self._ask("check", points, self._many(1 + number))

    def _sampled(self, history: History, goals: Goals) -> list[Array]:
        random = self._random("search", len(history))
        model = Model.of(history, goals, self.space)
        centers = [best_point(model, history, self.space, random, caution) for caution in _CENTERS]
        each = _CANDIDATES // len(centers)
        count = self.effort.population
        done = history.count("search") / max(1, self.effort.generations * count)
        nearer = 1 - _NARROWED * done
        candidates = np.concatenate([self._candidates(center, each, nearer, model, random) for center in centers])
        cost, worths = model.sample(candidates, count, random)
        chosen: list[Array] = []
        for number in range(count):
            total = goals.total(cost[:, number], [worth[:, number] for worth in worths])
            order = np.argsort(total)
            taken = next(index for index in order if not any(np.array_equal(candidates[index], one) for one in chosen))
            chosen.append(candidates[taken])
        return chosen

    def _candidates(self, center: Array, count: int, nearer: float, model: Model, random: np.random.Generator) -> Array:
        """Vectors around ``center`` that differ from it in some of the blocks, mostly in those that matter, or in the
        strength of all; ``nearer`` times as far as at first."""
        shares = np.where(random.random((count, 1)) < 0.5, _FEW, _MANY)
        chances = np.where(model.matters, shares, np.minimum(shares, _IDLE))
        moved = random.random((count, len(center))) < chances
        reach = nearer * random.choice(_REACHES, (count, 1))
        steps = moved * random.standard_normal((count, len(center))) * reach * self.space.width
        scaled = random.random((count, 1)) < _SCALED
        factors = np.where(scaled, np.exp(_SCALE * random.standard_normal((count, 1))), 1.0)
        candidates: Array = np.clip(factors * (center + steps), self.space.low, self.space.high)
        return candidates

    def _shots(self, history: History) -> list[int]:
        """The shots of a generation: all are gone through in turn, in an order of their own."""
        return self._turn(len(history), self.effort.shots)

    def _many(self, turn: int) -> list[int]:
        return self._turn(turn, self.effort.pool)

    def _turn(self, turn: int, count: int) -> list[int]:
        """``count`` shots, others in every turn until all were had."""
        order = self._random("shots", 0).permutation(self.pool)
        count = min(count, self.pool)
        return sorted({int(order[(turn * count + number) % self.pool]) for number in range(count)})

    def _ask(self, kind: str, points: list[Array] | Array, shots: list[int]) -> Ask:
        return Ask(kind, tuple(as_tuple(point) for point in points), tuple(shots))

    def _random(self, what: str, number: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, number, *what.encode()])


def as_tuple(point: Array) -> tuple[float, ...]:
    """A point of an :class:`Ask`."""
    return tuple(float(value) for value in np.round(point, 4))
