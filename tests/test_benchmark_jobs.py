"""Cases of benchmarks side by side: what is done is kept, what fails is left, and a later call goes on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from benchmarks.jobs import Limits, Results, run_cases
from loratools.errors import OptionError


def case(name: str, work: Path, device: str) -> dict[str, Any]:
    if name == "bad":
        raise OptionError("it cannot be")
    if name == "broken":
        raise ZeroDivisionError("nobody foresaw it")
    if name == "dies" and not work.with_suffix(".once").exists():
        work.with_suffix(".once").touch()
        os._exit(9)
    return {"name": name, "device": device, "process": os.getpid()}


@pytest.fixture
def results(tmp_path: Path) -> Results:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/before.json").write_text('{"name": "before"}')
    return Results(tmp_path / "tree", tmp_path / "keep")


def test_cases_run_side_by_side_and_those_that_fail_are_left_for_the_next_call(
    results: Results, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["before", "bad", "broken", "dies", "good"]
    run_cases(names, case, tmp_path, results, Limits(2, "cpu", None))
    assert list(results.read(names)) == ["before", "good"]
    said = capsys.readouterr().out
    assert "bad: failed: it cannot be" in said and "ZeroDivisionError: nobody foresaw it" in said
    run_cases(names, case, tmp_path, results, Limits(1, "cpu", None))
    done = results.read(names)
    assert list(done) == ["before", "dies", "good"] and "process" not in done["before"]
    assert done["dies"]["device"] == "cpu" and done["dies"]["process"] != os.getpid()


def test_without_time_nothing_is_begun(results: Results, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_cases(["good"], case, tmp_path, results, Limits(1, "cpu", 0.0))
    assert "left for another call: good" in capsys.readouterr().out and not results.read(["good"])
