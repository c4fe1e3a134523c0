"""``loratools epochs``: a table and a shortlist for people, JSON for scripts."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner, Result

from loratools.cli import shell
from tests.train.test_epochs import write_run


def run(*words: object) -> Result:
    return CliRunner().invoke(shell, [str(word) for word in words])


def test_epochs_tells_people_and_scripts(tmp_path: Path) -> None:
    write_run(tmp_path, [0.12, 0.09, 0.08])
    shown = run("epochs", tmp_path, "--plot", tmp_path / "e.png")
    assert shown.exit_code == 0 and "shortlist (*), the first one first:\n  3: lowest training loss" in shown.stdout
    assert (tmp_path / "e.png").is_file()
    told = json.loads(run("epochs", tmp_path, "--json").stdout)
    assert [own["epoch"] for own in told["epochs"]] == [1, 2, 3] and told["shortlist"][0]["epoch"] == 3
    assert told["epochs"][0]["drift"] is None and told["epochs"][1]["drift"] > 0


def test_a_folder_without_epochs_is_one_clear_line(tmp_path: Path) -> None:
    shown = run("epochs", tmp_path)
    assert shown.exit_code == 1 and shown.stderr.startswith("error: ") and "epoch files" in shown.stderr
