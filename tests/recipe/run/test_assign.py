"""Which steps start in which places."""

from __future__ import annotations

import itertools

import pytest

from loratools.recipe.run.assign import assign


@pytest.mark.parametrize(
    ("most", "free", "soon", "expected"),
    [
        ([], [0, 1], 0, []),
        ([4], [], 0, []),
        ([1], [0, 1], 0, [(0,)]),  # alone, and gains nothing from a second process
        ([4], [0, 1], 0, [(0, 1)]),  # alone, and gains
        ([4, 9], [0, 1], 0, [(0,), (1,)]),  # two that do not need each other run at once
        ([4, 9, 9], [0, 1], 0, [(0,), (1,)]),  # the third waits
        ([4, 9], [2, 5, 6], 0, [(2, 5), (6,)]),
        ([1, 9], [0, 1, 2, 3], 0, [(0,), (1, 2, 3)]),
        ([2, 2], [0, 1, 2, 3, 4], 0, [(0, 1), (2, 3)]),
        ([9], [0, 1], 1, [(0,)]),  # another will be ready when its pictures are drawn
        ([9], [0, 1, 2], 1, [(0, 1)]),
        ([9, 9], [0, 1], 5, [(0,), (1,)]),
    ],
)
def test_places(most: list[int], free: list[int], soon: int, expected: list[tuple[int, ...]]) -> None:
    assert assign(most, free, soon) == expected


def test_every_step_has_places_of_its_own_and_none_is_idle_that_a_ready_step_can_use() -> None:
    for count, places in itertools.product(range(4), range(6)):
        for most in itertools.product((1, 2, 8), repeat=count):
            given = assign(most, range(places))
            taken = [place for own in given for place in own]
            assert len(taken) == len(set(taken)) <= places
            assert len(given) == min(count, places)
            assert all(1 <= len(own) <= limit for own, limit in zip(given, most, strict=False))
            assert len(taken) == places or all(len(own) == limit for own, limit in zip(given, most, strict=True))
