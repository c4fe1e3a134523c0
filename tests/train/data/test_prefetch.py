from __future__ import annotations

import threading

import pytest

from loratools.train.data.prefetch import Prefetcher


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_results_come_in_the_parts_order(ahead: int) -> None:
    with Prefetcher(range(20), lambda n: n * n, ahead) as prefetcher:
        assert list(prefetcher) == [n * n for n in range(20)]


def test_batches_are_made_before_they_are_asked_for_but_not_all_of_them() -> None:
    made: list[int] = []
    third = threading.Event()

    def make(n: int) -> int:
        made.append(n)
        if n == 2:
            third.set()
        return n

    with Prefetcher(range(100), make, 2) as prefetcher:
        assert third.wait(10)  # two wait, and one more is ready to be put in
        assert max(made) <= 3
        assert next(iter(prefetcher)) == 0


@pytest.mark.parametrize("ahead", [0, 2])
def test_an_error_is_raised_where_its_batch_would_have_come(ahead: int) -> None:
    def make(n: int) -> int:
        if n == 2:
            raise ValueError("picture 2 is gone")
        return n

    got = []
    with pytest.raises(ValueError, match="picture 2 is gone"), Prefetcher(range(5), make, ahead) as prefetcher:
        for value in prefetcher:
            got.append(value)
    assert got == [0, 1]


def test_leaving_early_ends_the_thread() -> None:
    before = threading.active_count()
    with Prefetcher(iter(int, 1), lambda n: n, 2) as prefetcher:  # parts without end
        assert next(iter(prefetcher)) == 0
    assert threading.active_count() == before
