"""How far a search is: what is left of it, of its budget, and of its report."""

from __future__ import annotations

from loratools.tune.progress import Clock, TuneProgress


def test_a_search_that_its_budget_cut_short_has_only_its_report_left() -> None:
    time, told = 0.0, list[TuneProgress]()
    clock = Clock(1000, 20, 60.0, told.append, lambda: False, lambda: time)
    clock.begin("ladder")
    for _ in range(10):
        time += 2.0
        clock.picture()
    assert (told[-1].done, told[-1].total, told[-1].seconds_left) == (10, 1000, 40.0)  # not 1,980
    clock.begin("report")
    assert (told[-1].total, told[-1].seconds_left) == (30, 40.0)
    time = 70.0
    clock.picture()
    assert told[-1].seconds_left is not None and told[-1].seconds_left > 0  # over the budget it is drawn all the same
