"""What the command line adds to recipes: variables, jobs, a shared cache, and what is printed when a step fails."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loratools.adapter.files.file import read
from tests.cli.test_cli import call
from tests.recipe.conftest import save_lora

RECIPE = """\
vars: {weight: 0.5}
steps:
  one: {merge: "a:${weight}"}
  two: {merge: "b:1"}
  both: {merge: "one:1, two:1"}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate("ab"):
        save_lora(tmp_path / f"{name}.safetensors", seed)
    (tmp_path / "r.yaml").write_text(RECIPE)
    return tmp_path


def states(*words: str) -> dict[str, str]:
    done = call("run", "r.yaml", *words, "--json")
    assert done.exit_code == 0, done.output
    return {step["step"]: step["state"] for step in json.loads(done.stdout)}


def test_a_variable_from_the_command_line_makes_only_what_uses_it_anew(folder: Path) -> None:
    assert set(states().values()) == {"made"}
    assert states("--set", "weight=0.5") == {"one": "cached", "two": "cached", "both": "cached"}
    assert states("--set", "weight=1") == {"one": "made", "two": "cached", "both": "made"}
    one, a = read("runs/r/one.safetensors"), read("a.safetensors")
    assert one[one.names[0]].norm() == pytest.approx(a[one.names[0]].norm(), rel=1e-3)
    typo = call("run", "r.yaml", "--set", "wieght=1")
    assert typo.exit_code == 1 and "did you mean 'weight'?" in typo.stderr
    wrong = call("run", "r.yaml", "--set", "weight")
    assert wrong.exit_code == 2 and "write NAME=VALUE" in wrong.stderr
    assert call("merge", "a:1", "--set", "x=1", "-o", "o.safetensors").exit_code == 2


def test_steps_at_once_give_what_steps_in_turn_do(folder: Path) -> None:
    assert set(states("--jobs", "2", "-o", "twice").values()) == {"made"}
    assert set(states("-o", "once").values()) == {"made"}
    assert read("twice/both.safetensors").digest == read("once/both.safetensors").digest


def test_a_shared_cache_serves_another_work_folder(folder: Path) -> None:
    assert set(states("--cache", "kept", "-o", "here").values()) == {"made"}
    assert set(states("--cache", "kept", "-o", "there").values()) == {"cached"}
    assert read("here/both.safetensors").digest == read("there/both.safetensors").digest


def test_a_dry_run_says_how_long_and_how_large_and_how_it_knows(folder: Path) -> None:
    made = json.loads(call("run", "r.yaml", "--json").stdout)
    assert all(step["size"] > 0 and step["memory"] > 0 and step["seconds"] >= 0 for step in made)
    asked = ("run", "r.yaml", "--set", "weight=1", "--dry-run")
    lines = call(*asked).stdout.splitlines()
    assert lines[0].split() == ["step", "kind", "state", "time", "size", "memory", "basis", "reads", "writes"]
    assert lines[1].count("iB") == 2 and "its last run" in lines[1]
    assert "cached" in lines[2] and lines[2].count(" - ") == 4
    one, two, _ = json.loads(call(*asked, "--json").stdout)
    assert one["estimate"]["size"] == made[0]["size"] and one["estimate"]["memory"] == made[0]["memory"]
    assert one["estimate"]["basis"] == "its last run" and one["estimate"]["seconds"] >= 0
    assert two["state"] == "cached" and two["estimate"] == {"seconds": None, "size": None, "memory": None, "basis": ""}
    fresh = json.loads(call(*asked, "--json", "-o", "elsewhere").stdout)
    assert [step["estimate"]["basis"] for step in fresh] == ["", "", ""]  # nothing is known, and nothing made up


def test_every_failure_is_reported_and_the_rest_still_runs(folder: Path) -> None:
    (folder / "r.yaml").write_text(RECIPE + '  three: {merge: "a:1", out: taken.safetensors}\n')
    (folder / "runs/r").mkdir(parents=True)
    (folder / "runs/r/one.safetensors").write_bytes(b"somebody's own")
    (folder / "runs/r/taken.safetensors").write_bytes(b"somebody's own")
    done = call("run", "r.yaml")
    assert done.exit_code == 1
    first, second, how, error = done.stderr.splitlines()
    assert how.startswith("what is done stays; to go on, mend what the error names")
    assert first == "the step 'one' failed; not run, since they need it: both"
    assert second.startswith("the step 'three' failed: ") and "--force" in second
    assert error.startswith("error: ") and "one.safetensors" in error
    assert Path("runs/r/two.safetensors").is_file() and not Path("runs/r/both.safetensors").exists()
