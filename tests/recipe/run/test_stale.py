"""``--explain``: the change that made a step stale is named, followed to the step that it began in, and no other."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from loratools.cli import cli
from loratools.files import sha256
from loratools.recipe.plan.context import RunContext
from loratools.recipe.run.runner import make_planner, run_steps
from loratools.recipe.run.stale import differences, explain
from loratools.recipe.run.work_folder import WorkFolder
from tests.recipe.conftest import save_lora

RECIPE = """\
blocks:
  MINE: [1, 0.6, 0.9, 0.9, 0.9, 0.6, 0.5, 0.4, 0.4, 0.6, 0.8, 1.0, 1.1, 1.1, 1.1, 1.1, 1.1]
steps:
  final: {merge: "style.safetensors:1:MINE, other.safetensors:-0.5"}
  slim: {resize: {lora: final, rank: "2"}}
  apart: {resize: {lora: other.safetensors, rank: "1"}}
"""


def run(text: str) -> dict[str, bool]:
    """step -> whether it was cached."""
    Path("r.yaml").write_text(text, encoding="utf-8")
    planner = make_planner("r.yaml", Path("work"))
    return {ran.planned.name: ran.cached for ran in run_steps(planner.plan(), Path("work"), RunContext(device="cpu"))}


def explained(text: str, *names: str) -> dict[str, list[str]]:
    Path("r.yaml").write_text(text, encoding="utf-8")
    steps = {step.name: step for step in make_planner("r.yaml", Path("work")).plan()}
    return {name: explain(steps[name], steps, WorkFolder(Path("work"))) for name in names}


def command(*words: str) -> Result:
    return CliRunner().invoke(cli, ["run", "r.yaml", "-o", "work", *words])


@pytest.fixture(autouse=True)
def files(here: Path) -> Sequence[Path]:
    return [save_lora(here / "style.safetensors", seed=1, rank=4), save_lora(here / "other.safetensors", seed=2)]


def test_one_number_of_a_vector_is_named_and_changes_only_what_depends_on_it() -> None:
    assert explained(RECIPE, "final") == {"final": ["it has not run in this work folder yet"]}
    run(RECIPE)
    before = {path.name: sha256(path) for path in Path("work").glob("*.safetensors")}
    assert explained(RECIPE, "final", "slim", "apart") == {"final": [], "slim": [], "apart": []}
    edited = RECIPE.replace("[1, 0.6, 0.9,", "[1, 0.6, 0.8,")
    assert explained(edited, "final", "slim", "apart") == {
        "final": ["style.safetensors's vector, IN02: 0.9 -> 0.8"],
        "slim": ["the step 'final' changed:", "  style.safetensors's vector, IN02: 0.9 -> 0.8"],
        "apart": [],
    }
    assert run(edited) == {"final": False, "slim": False, "apart": True}
    after = {path.name: sha256(path) for path in Path("work").glob("*.safetensors")}
    assert {name for name in before if before[name] != after[name]} == {"final.safetensors", "slim.safetensors"}
    assert explained(edited, "final", "slim") == {"final": [], "slim": []}


def test_weights_options_inputs_and_damage_are_named(here: Path) -> None:
    run(RECIPE)
    assert explained(RECIPE.replace("-0.5", "-0.7"), "final") == {"final": ["other.safetensors's weight: -0.5 -> -0.7"]}
    (changed,) = explained(RECIPE.replace('rank: "2"', 'rank: "3"'), "slim")["slim"]
    assert "rank" in changed and "2 -> " in changed.replace("fixed(2)", "2") and "3" in changed
    Path("work/apart.safetensors").unlink()
    (gone,) = explained(RECIPE, "apart")["apart"]
    assert "nothing that determines it changed" in gone and "apart.safetensors is gone" in gone
    save_lora(here / "style.safetensors", seed=9, rank=4)
    assert explained(RECIPE, "final") == {"final": ["the content of style.safetensors changed"]}
    fewer = RECIPE.replace(", other.safetensors:-0.5", "")
    assert "'other.safetensors' is no longer read" in explained(fewer, "final")["final"]


def test_the_command_line_prints_it_and_runs_nothing() -> None:
    run(RECIPE)
    Path("r.yaml").write_text(RECIPE.replace("-0.5", "-0.7"), encoding="utf-8")
    shown = command("--explain", "slim", "--explain", "apart")
    assert shown.exit_code == 0, shown.output
    assert shown.stdout == (
        "slim: to do\n  the step 'final' changed:\n    other.safetensors's weight: -0.5 -> -0.7\napart: cached\n"
    )
    assert json.loads(command("--explain", "apart", "--json").stdout) == [
        {"step": "apart", "state": "cached", "changes": []}
    ]
    wrong = command("--explain", "fnal")
    assert wrong.exit_code == 1 and "did you mean 'final'" in wrong.stderr
    assert command("--only", "apart", "--explain", "slim").exit_code == 1


def test_differences_reach_every_leaf() -> None:
    before, now = {"a": [1, {"b": 2}], "c": (1, 2), "d": None}, {"a": [1, {"b": 3}], "c": [1, 2], "e": 1}
    assert list(differences(before, now)) == [(("a", 1, "b"), 2, 3), (("e",), None, 1)]
    assert list(differences([1], [1, 2])) == [((), [1], [1, 2])]
