"""``loratools epochs``: a table and a shortlist for people, JSON for scripts."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner, Result

from loratools.cli import cli
from tests.train.output.test_epoch_report import write_run


def run(*words: object) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words])


def test_epochs_tells_people_and_scripts(tmp_path: Path) -> None:
    write_run(tmp_path, [0.12, 0.09, 0.08])
    shown = run("epochs", tmp_path, "--plot", tmp_path / "e.png")
    assert shown.exit_code == 0 and "shortlist (*), the first one first:\n  3: lowest training loss" in shown.stdout
    assert (tmp_path / "e.png").is_file()
    report = json.loads(run("epochs", tmp_path, "--json").stdout)
    assert [own["epoch"] for own in report["epochs"]] == [1, 2, 3] and report["shortlist"][0]["epoch"] == 3
    assert report["epochs"][0]["drift"] is None and report["epochs"][1]["drift"] > 0


def test_a_folder_without_epochs_is_one_clear_line(tmp_path: Path) -> None:
    shown = run("epochs", tmp_path)
    assert shown.exit_code == 1 and shown.stderr.startswith("error: ") and "epoch files" in shown.stderr


def test_the_pictures_that_are_learnt_worst(tmp_path: Path) -> None:
    write_run(tmp_path, [0.12, 0.09, 0.08])
    shown = run("epochs", tmp_path, "--images")
    assert shown.exit_code == 1 and "no log that tells losses by image" in shown.stderr
    lines = [
        {
            "kind": "losses",
            "epoch": epoch,
            "bands": [{"from": 0, "to": 99, "loss": loss}, {"from": 100, "to": 199, "loss": None}],
            "relative": {"a/easy.png": loss, "a/hard.png": 2 * loss},
        }
        for epoch, loss in ((1, 0.5), (2, 0.2), (3, 0.1))
    ]
    with (tmp_path / "ink.jsonl").open("a", encoding="utf-8") as log:
        log.write("\n" + "\n".join(json.dumps(line) for line in lines))
    shown = run("epochs", tmp_path, "--images")
    assert "  0.3000 (1.0000)  a/hard.png\n  0.1500 (0.5000)  a/easy.png\n" in shown.stdout
    assert shown.stdout.rstrip().endswith("0.1500 (0.5000)  0 to 99")
    report = json.loads(run("epochs", tmp_path, "--images", "--json").stdout)
    assert [own["name"] for own in report["images"]] == ["a/hard.png", "a/easy.png"] and report["shortlist"]
    assert report["timesteps"] == [{"name": "0 to 99", "earlier": 0.5, "later": 0.15000000000000002}]
