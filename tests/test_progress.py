"""How far a work is: the bar that reports to a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loratools import progress


def test_a_bar_reports_to_the_file_that_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "progress.json"
    monkeypatch.setenv(progress.PROGRESS_FILE, str(file))
    monkeypatch.setattr(progress, "_REPORTED", 0.0)
    with progress.tqdm_bar(total=4, unit="step", desc="epoch 1/2", initial=1) as bar:
        assert not bar.disable
        bar.update(1)
        bar.set_description("epoch 2/2")
        bar.update(1)
        said = json.loads(file.read_text())
    assert (said["done"], said["total"], said["unit"], said["what"]) == (3, 4, "step", "epoch 2/2")
    assert said["left"] > 0
    assert [path.name for path in tmp_path.iterdir()] == ["progress.json"]


@pytest.mark.parametrize("seconds", [0.0, 12.5])
def test_seconds_that_are_known_better_than_by_the_rate_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    file = tmp_path / "progress.json"
    monkeypatch.setenv(progress.PROGRESS_FILE, str(file))
    monkeypatch.setattr(progress, "_REPORTED", 0.0)
    with progress.tqdm_bar(total=1000, unit="picture") as bar:
        bar.seconds_left = seconds
        bar.update(1)
        assert json.loads(file.read_text())["left"] == seconds


def test_a_bar_that_is_not_shown_reports_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(progress.PROGRESS_FILE, str(tmp_path / "progress.json"))
    with progress.tqdm_bar(shown=False, total=4) as bar:
        bar.update(4)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written_stops_no_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(progress.PROGRESS_FILE, str(tmp_path / "none/progress.json"))
    monkeypatch.setattr(progress, "_REPORTED", 0.0)
    with progress.tqdm_bar(total=4) as bar:
        bar.update(4)
        assert bar.n == 4


def test_without_the_variable_it_is_tqdms_own(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.tqdm_bar(total=4) as bar:  # stderr is no terminal here
        assert bar.disable
    assert capsys.readouterr().err == ""
