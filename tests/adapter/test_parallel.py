"""Work on several threads: results in order, and no more begun than memory is meant for."""

import threading
import time

import pytest

from loratools.adapter import parallel


@pytest.mark.parametrize("cores", [1, 4])
def test_results_are_in_order_and_large_items_are_begun_one_by_one(monkeypatch: pytest.MonkeyPatch, cores: int) -> None:
    monkeypatch.setattr(parallel.os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    monkeypatch.setattr(parallel, "IN_WORK", 100)
    sizes = [10, 90, 300, 300, 20, 20, 20, 99, 1]
    lock, begun, most = threading.Lock(), 0, 0

    def work(index: int) -> int:
        nonlocal begun, most
        with lock:
            begun += sizes[index]
            most = max(most, begun)
        time.sleep(0.002)
        return index

    handed_on = []
    for index in parallel.in_order(work, range(len(sizes)), size=lambda index: sizes[index]):
        with lock:
            begun -= sizes[index]
        handed_on.append(index)
    assert handed_on == list(range(len(sizes)))
    assert most <= 300 + 100  # a large one alone; what was just handed on is counted until it is here


def test_an_error_of_the_work_comes_out_at_its_place() -> None:
    results = parallel.in_order(lambda number: 1 // number, [1, 0, 1])
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)
