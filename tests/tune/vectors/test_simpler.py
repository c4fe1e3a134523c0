"""Vectors that move fewer blocks: what is put back, what it may cost, and how the numbers are written."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from loratools.tune.arrays import Array
from loratools.tune.problem.space import Space
from loratools.tune.search.answer import LOSS, fewest_moved
from loratools.tune.search.local import Search
from loratools.tune.search.simpler import Simpler, rounded, simpler_vectors, simplest


def search(space: Space, worth: dict[str, float], seed: int = 1) -> Search:
    """Of a made-up model: each block is worth so much when it goes from 1 to 0; others are worth next to nothing."""
    shares = np.array([worth.get(name, 0.002) for name in space.names])

    def total(points: Array, caution: float) -> Array:
        return np.asarray(1.0 - np.clip(1 - points, 0, 1) @ shares)

    return Search(SimpleNamespace(total=total), space, np.random.default_rng(seed), 0.0)  # type: ignore[arg-type]


def test_blocks_that_do_not_matter_go_back_to_where_they_were(space: Space) -> None:
    own = search(space, {"OUT08": 0.4, "OUT09": 0.3, "IN04": 0.1})
    path = simpler_vectors(own, np.zeros(len(space.start)), LOSS)
    assert [one.free for one in path] == sorted((one.free for one in path), reverse=True)
    answer = simplest(path, LOSS)
    moved = {name for name, value, start in zip(space.names, answer, space.start, strict=True) if value != start}
    assert moved == {"OUT08", "OUT09", "IN04"}, "the tenth that IN04 is worth is more than may be lost"
    assert simplest(path, 0.2).tolist().count(1.0) >= answer.tolist().count(1.0), "who may lose more moves less"


def test_what_is_left_makes_up_for_a_block(space: Space) -> None:
    """Two blocks that do the same: one of them is enough, further down."""
    names = list(space.names)
    one, two = names.index("OUT08"), names.index("OUT09")

    def total(points: Array, caution: float) -> Array:
        return np.asarray(np.maximum(0.0, points[:, one] + points[:, two] - 1.0))

    own = Search(SimpleNamespace(total=total), space, np.random.default_rng(1), 0.0)  # type: ignore[arg-type]
    begin = space.start.copy()
    begin[[one, two]] = 0.5
    answer = simplest(simpler_vectors(own, begin, LOSS), LOSS)
    assert (answer != space.start).sum() == 1 and answer[[one, two]].min() < 0.12


def test_no_simpler_vector_is_as_good_where_every_block_matters(space: Space) -> None:
    own = search(space, dict.fromkeys(space.names, 0.2))
    path = simpler_vectors(own, np.zeros(len(space.start)), LOSS)
    assert len(path) == 2, "it ends with the first that loses too much"
    assert (simplest(path, LOSS) == 0).all()


def test_weights_are_written_as_a_person_would(space: Space) -> None:
    point = space.start.copy()
    point[:4] = 0.321, 0.99, 1.0, -0.9
    assert rounded(point, space)[:4].tolist() == [0.3, 1.0, 1.0, -0.5], "and stay in the range"


@pytest.mark.parametrize(("noise", "expected"), [(0.01, 0), (0.05, 1), (1.0, 1)])
def test_a_simpler_one_is_taken_where_nothing_tells_the_two_apart(space: Space, noise: float, expected: int) -> None:
    points = np.stack([space.start * 0.5, space.start, space.start])
    points[1:, 3] = 0.5
    totals = np.array([0.30, 0.34, 0.30 + LOSS + 0.01])
    assert fewest_moved(points, totals, space, [0.0, noise, noise]) == expected
    assert fewest_moved(points, totals, space) == 1


def test_the_simplest_keeps_to_what_may_be_lost() -> None:
    path = [Simpler(np.array([float(free)]), free, total) for free, total in ((5, 0.2), (4, 0.19), (3, 0.25), (2, 0.4))]
    assert simplest(path, 0.0).tolist() == [4.0] and simplest(path, 0.07).tolist() == [3.0]
    assert simplest(path, 1.0).tolist() == [2.0]
