"""The last choice by a model, and what it says of pictures that the search had not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from loratools.tune.arrays import Array
from loratools.tune.history import Generation, History, Samples
from loratools.tune.problem.effort import FULL
from loratools.tune.problem.goals import goals_of
from loratools.tune.problem.prompts import split_prompts
from loratools.tune.problem.space import Space
from loratools.tune.search.answer import chosen_answer
from loratools.tune.search.gaussian_process import GaussianProcess
from loratools.tune.search.kernel import Geometry, Kernel
from loratools.tune.search.model import Model

SHOTS = 12


def model_of(space: Space, style: Callable[[Array], Array], *, shots: int = SHOTS, own: float = 0.0) -> Model:
    """Of a LoRA whose first block carries the hands and whose second the style, by what ``style`` says of it; each
    picture's style has an answer of its own, as large as ``own``."""
    random = np.random.default_rng(4)
    slopes = random.normal(0, 1, shots)
    slopes -= slopes.mean()
    points = np.clip(space.start + random.normal(0, 0.4, (40, len(space.start))), -0.5, 1.8)
    points[0] = space.start
    hands = [2 * np.clip(point[0], 0, 1) * np.ones(shots) for point in points]
    kept = [style(point) + own * (point[0] - 1) * slopes for point in points]
    drawn = [
        Generation(
            "whole" if number == 0 else "search",
            (tuple(point),),
            tuple(range(shots)),
            {"hands": (tuple(hands[number]),), "style": (tuple(kept[number]),)},
        )
        for number, point in enumerate(points)
    ]
    base = {"hands": [0.0] * shots, "style": [0.0] * shots}
    goals = goals_of({"hands": "lower"}, {"style": "higher"}, drawn[0].of_point(0), base, 0.95)
    return Model.of(History(tuple(drawn), shots), goals, space)


def vector(space: Space, **blocks: float) -> Array:
    point = space.start.copy()
    for name, value in blocks.items():
        point[space.names.index(name)] = value
    return point


def test_what_is_no_better_than_plain_strength_is_not_the_answer(space: Space) -> None:
    first, second = space.names[:2]
    model = model_of(space, lambda point: 0.9 * np.clip(point[1], 0, 1.2) * np.ones(SHOTS))
    plain = 0.98 * space.start
    lost, little = vector(space, **{first: 0.0, second: 0.3}), vector(space, **{first: 0.95})
    mended = vector(space, **{first: 0.1})
    simple = chosen_answer(np.array([space.start, plain, lost, little]), model, space, plain)
    assert any(np.array_equal(simple, own) for own in (space.start, plain)), "style is lost, or too little is gained"
    best = chosen_answer(np.array([space.start, plain, lost, little, mended]), model, space, plain)
    assert np.array_equal(best, mended)


def test_a_style_that_few_pictures_tell_of_is_not_taken_for_kept(space: Space) -> None:
    points = np.array([vector(space, **{space.names[0]: 0.0})])
    few, many = (
        model_of(space, lambda point, n=n: 0.9 * np.ones(n), shots=n, own=0.25)  # type: ignore[misc]
        for n in (4, 60)
    )
    spreads = [model.worths[0].deviation(points - space.start)[0] for model in (few, many)]
    assert spreads[0] > 1.5 * spreads[1] > 0, "other pictures may answer otherwise"


def test_a_pictures_own_answer_is_nought_where_the_search_starts() -> None:
    random = np.random.default_rng(1)
    points = np.concatenate([np.zeros((1, 5)), random.normal(0, 0.5, (8, 5))])
    kernel, geometry = Kernel(own=2.0), Geometry.of(points, points)
    covariance = kernel.of_pictures(geometry)
    assert np.allclose(covariance[0], 0) and np.linalg.eigvalsh(covariance).min() > -1e-9
    assert np.allclose(np.diag(kernel.of(geometry)), kernel.variance(points))
    one = Samples(points, points[:, 0], np.eye(9)[:, :6] + np.eye(9, 6, -6))
    assert GaussianProcess(one).mean(points) == pytest.approx(points[:, 0], abs=0.3)


def test_many_prompts_have_one_seed_each_and_fresh_pictures_other_prompts() -> None:
    prompts = [f"prompt {number}" for number in range(300)]
    split = split_prompts(prompts, (), FULL, 1)
    search, fresh, held = ({shot.prompt for shot in part} for part in (split.search, split.fresh, split.held_out))
    assert len(split.search) == len(search) == FULL.prompts and len(split.fresh) == len(fresh) == FULL.fresh
    assert len(split.held_out) == len(held) == FULL.held_out and not (search & fresh or search & held or fresh & held)
    some = split_prompts(prompts[:32], (), FULL, 1)
    assert (len(some.search), len(some.held_out)) == (24 * 3, 8 * 3) and len(some.fresh) == 48
    assert {shot.prompt for shot in some.fresh} == {shot.prompt for shot in some.search}, "too few to part them"
    given = split_prompts(prompts, (1, 2, 3), FULL, 1)
    assert len(given.search) == 3 * 24 and {shot.seed for shot in given.search} == {1, 2, 3}
