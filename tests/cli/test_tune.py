"""``loratools blocks tune``: of a file and of a recipe, with a measure of one's own, and what it refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from safetensors import safe_open

from loratools.cli import cli
from loratools.preview.request.request import SamplingRequest
from loratools.tune import choosing, run
from loratools.tune.arrays import Array
from loratools.tune.problem import effort
from loratools.tune.problem.effort import Effort
from loratools.tune.problem.space import Space
from loratools.tune.problem.weight_range import HIGHEST, LOWEST
from tests.recipe.conftest import save_lora
from tests.tiny import save_tiny_base

PROMPTS = "1girl, smile\n1girl, red hair\n1girl, hat\n1girl, ink style\n"
RECIPE = """\
version: 1
base: tiny
blocks:
  GP1: [1.0, 0.6, 0.9, 0.9, 0.9, 0.6, 0.5, 0.4, 0.4, 0.6, 0.8, 1.0, 1.1, 1.1, 1.1, 1.1, 1.1]   # mine
steps:
  final: {merge: "a:1:GP1, b:-1:GP2"}   # keep me
  sheet: {grid: {rows: [final], prompts: prompts.txt, steps: 1, sampler: Euler, size: 64}}
"""
MEASURE = """\
import numpy as np

def bright(images, prompts, seeds):
    return [float(np.asarray(image).mean()) for image in images]

def constant(images, prompts, seeds):
    return [1.0] * len(images)
"""
GIVEN = ("--prompts", "prompts.txt")
SMALL = Effort(
    prompts=2,
    held_out=2,
    pool=4,
    shots=2,
    population=3,
    screening=9,
    generations=1,
    checks=1,
    fresh=0,
    strengths=(0.7,),
)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(effort, "QUICK", SMALL)
    monkeypatch.setattr(run, "write_both", lambda result: None)
    save_lora(tmp_path / "a.safetensors", 1)
    save_lora(tmp_path / "b.safetensors", 2, rank=3)
    save_tiny_base(tmp_path / "tiny")
    (tmp_path / "r.yaml").write_text(RECIPE, encoding="utf-8")
    (tmp_path / "prompts.txt").write_text(PROMPTS, encoding="utf-8")
    name = f"measure_{tmp_path.name.replace('-', '_')}"  # modules are imported once in a process
    (tmp_path / f"{name}.py").write_text(MEASURE, encoding="utf-8")
    return tmp_path


def call(*words: str | Path) -> Result:
    return CliRunner().invoke(cli, ["blocks", "tune", *(str(word) for word in words)])


def own(here: Path, function: str = "bright") -> tuple[str, str]:
    return "--measure", f"python={next(here.glob('measure_*.py')).stem}:{function}"


QUICK = ("--base", "tiny", "--symptom", "hands", "--seeds", "1", "--steps", "2", "--quick", "-o", "out")


def test_a_recipes_vector_is_edited_and_undone(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decided = run.judge_answer  # a base of random weights gives no vector that is better; this is about what is written
    monkeypatch.setattr(run, "judge_answer", lambda *given: replace(decided(*given), answer="tuned"))
    monkeypatch.setattr(
        choosing, "chosen_answer", lambda points, model, space, plain=None: np.round(space.start * 0.75, 4)
    )
    recipe = here / "r.yaml"
    done = call(recipe, "--symptom", "hands", "--seeds", "1", "--quick", "--amount", "-o", "out", *own(here))
    assert done.exit_code == 0, done.output
    content = json.loads((here / "out/tune.json").read_text())
    text = recipe.read_text()
    assert text != RECIPE and "# mine" in text and "# keep me" in text and text.count("\n") == RECIPE.count("\n")
    weights = [float(number) for number in text.split("GP1: [")[1].split("]")[0].split(",")]
    names = ("BASE", "IN01", "M00", "OUT11")
    assert [weights[place] for place in (0, 1, 7, 16)] == [content["vector"][name] for name in names]
    assert weights[3] == 0.9, "blocks that the file lacks stay"
    assert f"b:{-content['amount']:g}:GP2" in text
    back = CliRunner().invoke(cli, ["blocks", "undo", str(recipe)])
    assert back.exit_code == 0 and recipe.read_text() == RECIPE
    fixed = CliRunner().invoke(cli, ["blocks", "fix", str(recipe), "--symptom", "hands", "--dry-run"])
    assert "hands, step 1" in fixed.output


def test_kinds_of_layers_become_rules_of_the_recipe(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written, merged to the very file of the search, gone on from, and taken back."""
    save_lora(here / "a.safetensors", 1, more=("attn1.to_q", "attn2.to_q"))
    decided = run.judge_answer
    monkeypatch.setattr(run, "judge_answer", lambda *given: replace(decided(*given), answer="tuned"))
    seen: list[Space] = []

    def chosen(points: object, model: object, space: Space, plain: object = None) -> Array:
        seen.append(space)
        return np.round(space.start * np.where([one.endswith("/ff") for one in space.names], 0.5, 1.0), 4)

    monkeypatch.setattr(choosing, "chosen_answer", chosen)
    recipe = here / "r.yaml"
    words = (recipe, "--symptom", "hands", "--seeds", "1", "--quick", *own(here))
    done = call(*words, "--parts", "kinds", "-o", "out")
    assert done.exit_code == 0, done.output
    assert {"BASE", "OUT11/attn1", "OUT11/attn2", "OUT11/ff"} <= set(seen[-1].names)
    assert "OUT11/ff  no rule -> 0.55" in done.output and "OUT11/ff=0.55]   # mine" in recipe.read_text()
    assert json.loads((here / "out/tune.json").read_text())["vector"]["OUT11/ff"] == 0.55
    imported = CliRunner().invoke(cli, ["recipe", "import", "out/tuned.safetensors", "-o", "imported.yaml"])
    assert imported.exit_code == 0 and "OUT11/ff=0.55" in Path("imported.yaml").read_text(), imported.output
    merged = CliRunner().invoke(cli, ["merge", str(recipe)])
    assert merged.exit_code == 0, merged.output
    shown = CliRunner().invoke(cli, ["explain", "runs/r/final.safetensors"])
    assert "layers OUT11/ff 0.55" in shown.output, shown.output
    assert "OUT11/ff 0.55</p>" in Path("runs/r/report.html").read_text()
    with safe_open("out/tuned.safetensors", "pt") as tuned, safe_open("runs/r/final.safetensors", "pt") as final:
        keys = set(tuned.keys())
        assert keys == set(final.keys())
        assert all(torch.equal(tuned.get_tensor(key), final.get_tensor(key)) for key in keys)
    again = call(*words, "-o", "again")  # the numbers of blocks alone would lose the rules
    assert again.exit_code == 0 and seen[-1].start[seen[-1].names.index("OUT11/ff")] == 0.55, again.output
    refused = call(*words, "--parts", "blocks", "-o", "blocks")
    assert refused.exit_code == 1 and "leave `parts` out, or give it without" in refused.output
    for _ in range(2):
        back = CliRunner().invoke(cli, ["blocks", "undo", str(recipe)])
    assert back.exit_code == 0 and recipe.read_text() == RECIPE


def test_a_recipe_that_cannot_be_edited_is_refused_before_anything_is_drawn(here: Path) -> None:
    shared = RECIPE.replace("blocks:\n", "include: other.yaml\nblocks:\n").replace("GP1: [1.0", "OWN: [1.0")
    (here / "other.yaml").write_text("version: 1\nblocks: {GP1: [" + ", ".join(["1"] * 17) + "]}\n", encoding="utf-8")
    (here / "r.yaml").write_text(shared, encoding="utf-8")
    done = call("r.yaml", "--symptom", "hands", "-o", "out", *own(here))
    assert done.exit_code == 1 and "which" in done.output and not (here / "out").exists()
    (here / "r.yaml").write_text(RECIPE.replace("a:1:GP1", "a:1"), encoding="utf-8")
    done = call("r.yaml", "--symptom", "hands", "-o", "out", *own(here))
    assert done.exit_code == 1 and "has no block vector" in done.output


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--symptom", "nose"), 1, "there is no symptom 'nose'"),
        (("--measure", "like=good"), 1, "give 'unlike=FOLDER' as well"),
        (("--measure", "nothing"), 1, "there is no measure 'nothing'"),
        (("--keep", "1.5"), 1, "is no share of the style"),
        (("--budget", "soon"), 1, "is no length of time"),
        (("--prompts", "1girl"), 1, "needs two different prompts"),
        (("--amount", "--prompts", "prompts.txt"), 1, "no second LoRA that is subtracted"),
        (("--merge", "final"), 2, "goes with a recipe"),
        (("--then", "pick"), 1, "there is no way 'pick'"),
        (("--then", "search"), 1, "is a search already"),
        ((), 1, "does not say which tags"),
        (("--search-seed", "-1", *GIVEN), 1, "give a whole number from 0"),
        (("--negative", "<lora:x:1>", *GIVEN), 1, "names a LoRA where none can be added"),
        (("--votes", "no.json", "--measure", "votes", *GIVEN), 1, "no.json is missing or unreadable"),
        (("--measure", "command=no-such-program x", *GIVEN), 1, "there is no program 'no-such-program'"),
        (("--measure", "python=here_there.py:f", *GIVEN), 1, "cannot be imported"),
    ],
)
def test_bad_input_is_one_sentence(here: Path, words: tuple[str, ...], code: int, message: str) -> None:
    measure = () if "--measure" in words else own(here)
    done = call("a", *QUICK, *measure, *words)
    assert done.exit_code == code and message in done.output, done.output
    assert call("a", *QUICK, *measure, *words, "--dry-run").output == done.output and not (here / "out").exists()


@pytest.mark.parametrize("words", [("--allow-unknown",), ("--drop", "te"), ("--missing", "1")])
def test_what_a_recipe_reads_its_loras_by_stands_in_the_recipe(here: Path, words: tuple[str, ...]) -> None:
    done = call("r.yaml", "--symptom", "hands", *words, "-o", "out", *own(here))
    assert done.exit_code == 2 and words[0] in done.output and not (here / "out").exists()


def test_sampling_that_is_asked_for_goes_before_the_grids() -> None:
    grid = SamplingRequest(steps=1, sampler="Euler", size="64")
    asked = SamplingRequest(steps=7, negative="bad")
    assert asked.over(grid) == SamplingRequest(steps=7, sampler="Euler", size="64", negative="bad")
    assert SamplingRequest().over(grid) == grid


def test_what_is_trained_is_not_written_into_a_recipes_numbers(here: Path) -> None:
    done = call("r.yaml", "--symptom", "hands", "--then", "picks", "-o", "out", *own(here))
    assert done.exit_code == 2 and "no number of a recipe's vector can hold" in done.output
    assert (here / "r.yaml").read_text() == RECIPE


def test_the_judge_reads_the_pocket_alone_and_a_constant_measure_leads_nowhere(here: Path) -> None:
    done = call("a", *QUICK, "--prompts", "prompts.txt")
    assert done.exit_code == 1 and "the judge reads pictures of the pocket base alone" in done.output
    done = call("a", *QUICK, "--prompts", "prompts.txt", *own(here, "constant"), "-o", "other")
    assert done.exit_code == 1 and "gave 1 for each" in done.output


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="gloo's rendezvous by localhost is not tested there")
def test_two_processes_find_what_one_finds(here: Path) -> None:
    command = [sys.executable, "-m", "loratools", "blocks", "tune", "a", *QUICK[:-2], "--prompts", "prompts.txt"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    vectors = []
    for count in ("1", "2"):
        words = [*command, *own(here), "-o", f"out{count}", "--device", "cpu", "--processes", count, "--json"]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, done.stderr
        vectors.append(json.loads(done.stdout)["vector"])
    assert vectors[0] == vectors[1]


def test_a_runs_earlier_epoch_by_block(here: Path) -> None:
    (here / "run").mkdir()
    for number in (1, 2):
        save_lora(here / f"run/ink-{number:06d}.safetensors", number)
    words = (*QUICK, "--prompts", "prompts.txt", *own(here), "--epochs-by-block")
    done = call("run@2", *words, "1")
    assert done.exit_code == 0, done.output
    content = json.loads((here / "out/tune.json").read_text())
    assert set(content["earlier"]) == set(content["vector"]) and "of run@1: " in done.output
    for what, epoch, code, message in (
        ("run@2", "first", 2, "takes the number of an epoch"),
        ("run@2", "7", 1, "run"),
        ("a", "1", 1, "no training run"),
        ("r.yaml", "1", 2, "goes with a run"),
    ):
        done = call(what, *words, epoch)
        assert done.exit_code == code and message in done.output, done.output


def test_pictures_to_mark_are_asked_for_without_an_error(here: Path) -> None:
    words = ("a", *QUICK, "--prompts", "prompts.txt", "--measure", "marks")
    done = call(*words)
    page, votes = here / "out/marks/round-1/grid.html", here / "out/marks/round-1/votes.json"
    assert done.exit_code == 1 and page.is_file() and not (here / "out/tuned.safetensors").exists()
    assert "mark pictures by stars in" in done.output and "--votes FILE" in done.output
    assert "error" not in done.output and "run the same command again" in done.output
    cells = json.loads((page.parent / "round.json").read_text())["cells"]
    entries = {own["key"]: {"at": {}, "file": own["file"]} for own in cells}
    content = {"format": "loratools votes 1", "cells": entries, "stars": {cells[0]["key"]: 5}, "pairs": []}
    (here / "mine.json").write_text(json.dumps(content))
    done = call(*words, "--votes", "mine.json")
    assert done.exit_code == 1 and "error: no picture is marked bad" in done.output and votes.is_file()


def test_pairs_are_asked_for_on_a_page_or_in_the_terminal(here: Path) -> None:
    words = ("blocks", "tune", "a", *QUICK, "--prompts", "prompts.txt", "--measure", "votes")
    done = CliRunner().invoke(cli, [*words, "--terminal"], input="l\nn\nq\n")
    assert done.exit_code == 1 and "pair 3 of 20" in done.output and "answer the pairs in" in done.output, done.output
    kept = json.loads((here / "out/votes/round-1/votes.json").read_text())
    assert [pair["won"] for pair in kept["pairs"]] == ["left", "tie"]
    files = [line.split()[1] for line in done.output.splitlines() if line.strip().startswith(("l ", "r "))]
    assert len(files) == 6 and all(Path(file).is_file() for file in files)


def test_answers_that_nothing_asked_for_are_refused(here: Path) -> None:
    (here / "v.json").write_text("{}")
    for more, message in (
        (("--votes", "v.json"), "--votes answers what a tune asks"),
        (("--terminal",), "--terminal asks for choices here"),
        (("--measure", "votes", "--measure", "marks"), "two ways to ask the same"),
    ):
        done = call("a", *QUICK, *(own(here) if "--measure" not in more else ()), *more)
        assert done.exit_code != 0 and message in done.output, done.output


def test_the_help_names_the_range_that_is_tried() -> None:
    said = " ".join(CliRunner().invoke(cli, ["blocks", "tune", "--help"]).output.split())
    assert f"[default: {LOWEST:g}]" in said and f"[default: {HIGHEST:g}]" in said
