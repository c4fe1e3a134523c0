"""The estimate for more GPUs: what it is made of, and that it agrees with the runs that it is made from."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.scaling import PAPER, Parts, RunTime, StepTime, of_step, parts_of, predicted, report

ONE = RunTime(
    1,
    7.0 + 2 * 70 + 1 + 60,
    {
        "one": StepTime("train", 70, 60),
        "two": StepTime("train", 70, 60),
        "final": StepTime("merge", 1, 0),
        "sheet": StepTime("grid", 60, 52),
    },
)
TWO = RunTime(
    2,
    7.0 + 76 + 1 + 37,
    {
        "one": StepTime("train", 76, 60),
        "two": StepTime("train", 76, 60),
        "final": StepTime("merge", 1, 0),
        "sheet": StepTime("grid", 37, 26),
    },
)


def test_the_parts_of_two_runs_predict_both() -> None:
    parts = parts_of(ONE, TWO, batch=4)
    assert parts == Parts(2, 4, 8.0, 6.0, 3.0, (10.0, 60.0), (8.0, 52.0))
    assert predicted(parts, 1) == pytest.approx(ONE.seconds) and predicted(parts, 2) == pytest.approx(TWO.seconds)


def test_more_gpus_are_never_slower_and_never_beat_what_cannot_be_shared() -> None:
    seconds = [predicted(PAPER, count) for count in (2, 3, 4, 6, 8, 16, 64)]
    assert seconds == sorted(seconds, reverse=True)
    least = PAPER.start + PAPER.process + PAPER.ready + PAPER.train[0] + PAPER.grid[0]
    assert least < seconds[-1]
    assert predicted(PAPER, 16) - predicted(PAPER, 64) < 5  # a batch of four has no more than four processes


def test_a_step_is_not_shortened_as_much_as_it_has_processes() -> None:
    assert of_step(4, 1) == 1 and of_step(4, 4) == pytest.approx(0.033 / 0.0542)
    assert 0.25 < of_step(4, 4) < of_step(4, 2) < 1


def test_what_was_not_measured_says_so() -> None:
    assert report(None).count("to be measured") == 2
    facts = {"device": "NVIDIA H200", "tiny": False, "scale": {"batch": 4}, "runs": []}
    facts["runs"] = [
        {
            "processes": run.processes,
            "seconds": run.seconds,
            "steps": {
                name: {"kind": s.kind, "seconds": s.seconds, "shared": s.shared} for name, s in run.steps.items()
            },
        }
        for run in (ONE, replace(TWO, seconds=120.0))
    ]
    page = report(facts)
    assert "to be measured" not in page and "**1.73 x** one process (the bar: 1.7)" in page and "| 8 |" in page


def test_a_grid_that_ran_on_one_gpu_beside_a_tune_is_not_taken_for_a_shared_one() -> None:
    beside = replace(TWO, steps={**TWO.steps, "sheet": StepTime("grid", 63, 52), "tuned": StepTime("tune", 70, 0)})
    assert parts_of(ONE, beside, batch=4).ready == pytest.approx(3.0)


def test_a_way_that_was_not_done_in_time_is_not_measured() -> None:
    facts = {"device": "NVIDIA H200", "tiny": False, "scale": {"batch": 4}, "runs": [{"processes": 1}]}
    assert report(facts) == report(None)
