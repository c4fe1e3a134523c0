"""From a search's data to its answer: vectors for the whole pool, then finalists for pictures that nobody has seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from loratools.measures.measure import Better
from loratools.tune.arrays import Array
from loratools.tune.descent.answers import descent_answers, further_answers
from loratools.tune.descent.steps import Step, settled
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
from loratools.tune.search.simpler import rounded
from loratools.tune.search.strategy import Ask, Strategy, as_tuple
from loratools.tune.search.strength import best_strength

_LEAST = 8  # vectors that have to be screened before a model says anything
_MANY = ("whole", "ladder", "check")  # kinds of generations that are drawn for many shots


@dataclass(frozen=True)
class Found:
    """What the search ended with.

    Attributes:
        point: the answer; ``strength`` is the best plain one.
        effects: by block, what lowering it by a half does to the cost and to each constraint: mean and deviation.
        fresh: pictures by which the answer was chosen.
        steps: of the descent, if one led the search.
    """

    history: History
    point: Array
    strength: float
    finished: bool
    effects: Mapping[str, Mapping[str, tuple[float, float]]]
    fresh: int = 0
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True, eq=False)
class Choosing:
    """The end of a search.

    Attributes:
        draw: a generation by its number; raises Stopped.
        goals: of the whole LoRA's and the base's values.
        checks: measures that led nothing, and which way is better; what they do not see is not the answer.
        has_time: whether the budget allows so many pictures more.
    """

    space: Space
    request: TuneRequest
    shots: Split
    strategy: Strategy
    draw: Callable[[int, Ask], Generation]
    goals: Callable[[Values, Values], Goals]
    checks: Mapping[str, Better]
    has_time: Callable[[int], bool]

    def found(self, history: History, goals: Goals, finished: bool) -> Found:
        """The answer: the best of the vectors that were drawn for many shots, the last of them found by the model."""
        space, effort = self.space, self.request.effort
        strength = best_strength(history, goals, effort.strengths)
        if history.count("screening") < _LEAST:
            return Found(history, space.start * strength, strength, finished, {})
        for number in range(effort.checks):
            if number and not self.has_time(effort.check_pictures(len(self.shots.search))):
                break
            checked = answers(Model.of(history, goals, space), history, space, self._random(history))
            try:
                generation = self.draw(1 + len(history), self.strategy.check(checked, number))
            except Stopped:
                break
            history = replace(history, generations=(*history.generations, generation))
        model = Model.of(history, goals, space)
        best, fresh = self._by_model(history, goals, strength)
        return self._found(history, best, strength, finished, _effects(model, space), fresh)

    def after_descent(self, history: History, goals: Goals, steps: Sequence[Step], finished: bool) -> Found:
        """The answer of a descent: where it settled, or something simpler or nearer to the start that fresh pictures
        cannot tell from it."""
        strength = best_strength(history, goals, self.request.effort.strengths)
        if len(steps) < _LEAST:
            return Found(history, self.space.start * strength, strength, finished, {}, steps=tuple(steps))

        def propose(known: Finalists | None) -> list[Array]:
            return further_answers(steps, self.space, known) if known else descent_answers(steps, self.space)

        best, fresh = self._by_fresh_pictures(propose, history, strength)
        if best is None:
            best = rounded(settled(steps), self.space)
        return self._found(history, best, strength, finished, {}, fresh, tuple(steps))

    def _found(
        self,
        history: History,
        best: Array,
        strength: float,
        finished: bool,
        effects: Mapping[str, Mapping[str, tuple[float, float]]],
        fresh: int,
        steps: tuple[Step, ...] = (),
    ) -> Found:
        if fresh and np.array_equal(best, self.space.start):  # other pictures do not bear even plain strength
            strength = 1.0
        return Found(history, best, strength, finished, effects, fresh, steps)

    def _by_model(self, history: History, goals: Goals, strength: float) -> tuple[Array, int]:
        """One of the best vectors by the model, chosen after they were drawn for shots that the search had not, and how
        many pictures these were.

        What they show is data like any other, so that a second round has vectors that are better by all of it.
        """
        space = self.space
        plain = space.start * strength
        model, drawn, final = Model.of(history, goals, space), 0, [space.start, plain]
        known = [point for one in history.generations if one.kind in _MANY for point in one.points]
        chosen = [chosen_answer(np.array(known), model, space)] if history.count("check") else []
        chosen += answers(model, history, space, self._random(history), FINAL)
        for number in range(FRESH_ROUNDS):
            new = _new(chosen, final)[:FINALISTS]
            points = _new([*([] if number else final), *new], []) if new else []
            generation = self._drawn_fresh(1 + len(history), points)
            if generation is None:
                break
            drawn += generation.pictures
            final = [*final, *_new(points, final)]
            history = replace(history, generations=(*history.generations, generation))
            model = Model.of(history, goals, space)
            chosen = answers(model, history, space, self._random(history), FINAL)
        if not drawn:
            unseen = [] if history.count("check") else chosen[:1]
            final = [*map(np.array, known), plain, *unseen]
        return chosen_answer(np.array(final), model, space, plain), drawn

    def _by_fresh_pictures(
        self, propose: Callable[[Finalists | None], list[Array]], history: History, strength: float
    ) -> tuple[Array | None, int]:
        """The best of what is proposed, of the whole LoRA and of plain strength, by fresh pictures alone, and how
        many these were; None where none could be drawn.

        Args:
            propose: vectors for the first round, and for the second from what the first one said.
        """
        plain = self.space.start * strength
        finalists = Finalists(self.shots.fresh)
        for number in range(FRESH_ROUNDS):
            first = [] if number else [self.space.start, plain]
            chosen = propose(finalists if number else None)
            points = [*finalists.new(first), *finalists.new(chosen)[:FINALISTS]]
            generation = self._drawn_fresh(1 + len(history) + number, points, with_base=not number)
            if generation is None:
                break
            finalists = finalists.joined(generation, points)
        if not len(finalists):
            return None, 0
        goals = self.goals(finalists.values[0], finalists.base)
        return finalists.best(goals, plain, self.space, self.checks), finalists.pictures

    def _drawn_fresh(self, number: int, points: Sequence[Array], *, with_base: bool = False) -> Generation | None:
        """``points`` for the shots that the search had not; None where there are none of either, no time for them, or a
        stop is wanted meanwhile.

        Args:
            number: of the generation.
            with_base: the base comes before the points.
        """
        count = len(self.shots.search)
        shots = tuple(range(count, count + len(self.shots.fresh)))
        ask = Ask("fresh", (*([()] if with_base else []), *map(as_tuple, points)), shots)
        if not (points and shots) or not self.has_time(len(ask.points) * len(shots)):
            return None
        try:
            return self.draw(number, ask)
        except Stopped:
            return None

    def _random(self, history: History) -> np.random.Generator:
        return np.random.default_rng([self.request.seed, len(history)])


def _new(points: Sequence[Array], known: Sequence[Array]) -> list[Array]:
    """Those of ``points`` that are not ``known``, each once."""
    seen = {as_tuple(point) for point in known}
    return [np.array(point) for point in dict.fromkeys(map(as_tuple, points)) if point not in seen]


def _effects(model: Model, space: Space) -> dict[str, dict[str, tuple[float, float]]]:
    """By block: what lowering it by a half does to the cost and to each constraint."""
    effects = model.effects()
    return {
        block: {name: (float(mean[number]), float(deviation[number])) for name, (mean, deviation) in effects.items()}
        for number, block in enumerate(space.names)
    }
