"""From a search's data to its answer: vectors for the whole pool, then finalists for pictures that nobody has seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from loratools.tune.arrays import Array
from loratools.tune.history import Generation, History
from loratools.tune.problem.effort import FINALISTS, FRESH_ROUNDS
from loratools.tune.problem.goals import Goals, Values
from loratools.tune.problem.prompts import Split
from loratools.tune.problem.request import TuneRequest
from loratools.tune.problem.space import Space
from loratools.tune.progress import Stopped
from loratools.tune.search.answer import FINAL, answers, chosen_answer
from loratools.tune.search.finalists import Finalists
from loratools.tune.search.model import Model
from loratools.tune.search.strategy import Ask, Strategy, as_tuple
from loratools.tune.search.strength import best_strength

_LEAST = 8  # vectors that have to be screened before a model says anything


@dataclass(frozen=True)
class Found:
    """What the search ended with.

    Attributes:
        point: the answer; ``strength`` is the best plain one.
        effects: by block, what lowering it by a half does to the cost and to each constraint: mean and deviation.
        fresh: pictures by which the answer was chosen.
    """

    history: History
    point: Array
    strength: float
    finished: bool
    effects: Mapping[str, Mapping[str, tuple[float, float]]]
    fresh: int = 0


@dataclass(frozen=True, eq=False)
class Choosing:
    """The end of a search.

    Attributes:
        draw: a generation by its number; raises Stopped.
        goals: of the whole LoRA's and the base's values.
        has_time: whether the budget allows so many pictures more.
    """

    space: Space
    request: TuneRequest
    shots: Split
    strategy: Strategy
    draw: Callable[[int, Ask], Generation]
    goals: Callable[[Values, Values], Goals]
    has_time: Callable[[int], bool]

    def found(self, history: History, goals: Goals, finished: bool) -> Found:
        """The answer: the best of the vectors that were drawn for every shot, the last of them found by the model."""
        space, effort = self.space, self.request.effort
        strength = best_strength(history, goals, effort.strengths)
        if history.count("screening") < _LEAST:
            return Found(history, space.start * strength, strength, finished, {})
        for number in range(effort.checks):
            if number and not self.has_time(3 * len(self.shots.search)):
                break
            checked = answers(Model.of(history, goals, space), history, space, self._random(history))
            try:
                generation = self.draw(1 + len(history), self.strategy.check(checked))
            except Stopped:
                break
            history = replace(history, generations=(*history.generations, generation))
        model = Model.of(history, goals, space)
        best, fresh = self._by_fresh_pictures(model, history, strength)
        if fresh and np.array_equal(best, space.start):  # other pictures do not bear even plain strength
            strength = 1.0
        return Found(history, best, strength, finished, _effects(model, space), fresh)

    def _by_fresh_pictures(self, model: Model, history: History, strength: float) -> tuple[Array, int]:
        """One of the best vectors by the model, chosen by pictures that the model was not fitted to, and how many these
        were; without them chosen by the model.

        Where these say that less is kept than the model believes, a second round has vectors that are to keep more.
        """
        space, pool = self.space, len(self.shots.search)
        kinds = ("whole", "ladder", "check")
        known = [point for one in history.generations if one.kind in kinds for point in one.points]
        chosen = [chosen_answer(np.array(known), model, space)] if history.count("check") else []
        chosen += answers(model, history, space, self._random(history), FINAL)
        unchecked = chosen[:1]
        plain = space.start * strength
        finalists = Finalists(self.shots.fresh)
        shots = tuple(range(pool, pool + len(self.shots.fresh)))
        for number in range(FRESH_ROUNDS):
            first = [] if number else [space.start, plain]
            points = [*finalists.new(first), *finalists.new(chosen)[:FINALISTS]]
            base = () if number else ((),)
            ask = Ask("fresh", (*base, *map(as_tuple, points)), shots)
            if not (points and shots) or not self.has_time(len(ask.points) * len(shots)):
                break
            try:
                drawn = self.draw(1 + len(history) + number, ask)
            except Stopped:
                break
            finalists = finalists.joined(drawn, points)
            goals = self.goals(finalists.values[0], finalists.base)
            stricter = finalists.stricter(model, goals)
            chosen = answers(stricter, history, space, self._random(history), FINAL)
        if not len(finalists):
            unseen = [] if history.count("check") else unchecked
            return chosen_answer(np.array([*known, plain, *unseen]), model, space), 0
        return finalists.best(goals, plain, space), finalists.pictures

    def _random(self, history: History) -> np.random.Generator:
        return np.random.default_rng([self.request.seed, len(history)])


def _effects(model: Model, space: Space) -> dict[str, dict[str, tuple[float, float]]]:
    """By block: what lowering it by a half does to the cost and to each constraint."""
    effects = model.effects()
    return {
        block: {name: (float(mean[number]), float(deviation[number])) for name, (mean, deviation) in effects.items()}
        for number, block in enumerate(space.names)
    }
