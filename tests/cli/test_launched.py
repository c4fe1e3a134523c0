"""``--processes`` and ``--launch`` of the commands: what is run, what is refused, and in which words."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from loratools.adapter.files.file import read
from loratools.cli import cli
from loratools.cli.launched import _without
from tests.cli.test_tune import MEASURE, PROMPTS
from tests.cli.test_tune import RECIPE as TUNED
from tests.recipe.conftest import save_lora
from tests.tiny import save_tiny_base

ROOT = Path(__file__).parents[2]
SEVERAL = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}


@pytest.mark.parametrize(
    "words",
    [
        ["run", "mine.yaml"],
        ["merge", "mine.yaml"],
        ["demo", "-o", "x"],
        ["reproduce", "a.safetensors"],
        ["blocks", "fix", "mine.yaml"],
    ],
)
def test_under_a_launcher_the_first_process_says_what_to_write_instead(words: list[str]) -> None:
    first = CliRunner(env=SEVERAL).invoke(cli, words)
    command = " ".join(words[: 3 if words[0] == "blocks" else 2])
    assert first.exit_code == 1 and first.stdout == ""
    assert f'write loratools {command} ... --launch "accelerate launch ..."' in first.stderr
    assert len(first.stderr.splitlines()) == 1 and first.stderr.startswith("error: ")
    other = CliRunner(env={**SEVERAL, "RANK": "1"}).invoke(cli, words)
    assert other.exit_code == 1 and other.output == ""


def test_what_shares_its_work_under_a_launcher_is_not_refused(tmp_path: Path) -> None:
    result = CliRunner(env=SEVERAL).invoke(cli, ["grid", "no.safetensors", "--prompt", "x", "-o", str(tmp_path / "g")])
    assert result.exit_code == 2 and "missing option '--base'" in result.stderr, result.stderr
    again = ["train", "--base", "pocket", "--images", str(tmp_path), "--processes", "2"]
    result = CliRunner(env=SEVERAL).invoke(cli, again)
    assert result.exit_code == 1 and "this is process 1 of 2 that a launcher started" in result.stderr


def test_both_at_once_and_options_without_a_recipe_are_mistakes(tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("steps: {pictures: {draw: {style: ink, count: 1}}}\n")
    both = ["--processes", "2", "--launch", "torchrun"]
    result = CliRunner().invoke(cli, ["run", str(recipe), "-o", str(tmp_path / "w"), *both])
    assert result.exit_code == 1 and "processes and launch exclude each other" in result.stderr
    for option in (["--processes", "2"], ["--launch", ""]):
        result = CliRunner().invoke(cli, ["merge", "a:1", "-o", "x.safetensors", *option])
        assert result.exit_code == 2 and "--processes and --launch go with a recipe" in result.stderr
    recipe.write_text("processes: 2\nlaunch: torchrun\nsteps: {pictures: {draw: {style: ink, count: 1}}}\n")
    result = CliRunner().invoke(cli, ["run", str(recipe), "-o", str(tmp_path / "w")])
    assert result.exit_code == 1 and "'processes' and 'launch' exclude each other" in result.stderr
    recipe.write_text("processes: none\nsteps: {pictures: {draw: {style: ink, count: 1}}}\n")
    result = CliRunner().invoke(cli, ["run", str(recipe), "-o", str(tmp_path / "w")])
    assert result.exit_code == 1 and "line 1: processes" in result.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--processes", "0"], "processes 0: write auto, or a whole number from 1"),
        (["--processes", "1.5"], "processes 1.5: write auto"),
        (["--launch", ""], "launch is empty"),
        (["--launch", 'torchrun "x'], "no closing quotation"),
        (["--launch", "torchrun", "--processes", "2"], "exclude each other"),
    ],
)
def test_a_dry_run_reads_how_it_would_be_launched_but_needs_neither_gpus_nor_a_launcher(
    words: list[str], message: str, tmp_path: Path
) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("steps: {pictures: {draw: {style: ink, count: 1}}}\n")
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    train = ["train", "--base", "pocket", "--images", str(tmp_path), "--dry-run"]
    run = ["run", str(recipe), "-o", str(tmp_path / "out"), "--dry-run"]
    for command in (train, run):
        result = CliRunner().invoke(cli, [*command, *words])
        assert result.exit_code == 1 and message in result.stderr, result.output
    for there in (["--processes", "99"], ["--launch", "srun -N 99"]):
        assert CliRunner().invoke(cli, [*run, *there]).exit_code == 0
    recipe.write_text("launch: ''\nsteps: {pictures: {draw: {style: ink, count: 1}}}\n")
    assert "launch is empty" in CliRunner().invoke(cli, run).stderr


def test_the_command_line_replaces_what_the_recipe_says(tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("launch: no-such-launcher\nsteps: {pictures: {draw: {style: ink, count: 1}}}\n")
    words = ["run", str(recipe), "-o", str(tmp_path / "w")]
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 1 and "there is no program 'no-such-launcher'" in result.stderr
    result = CliRunner().invoke(cli, [*words, "--processes", "1"])
    assert result.exit_code == 0, result.output


def test_the_launched_command_has_the_same_arguments_without_the_launch() -> None:
    words = ["a", "--processes", "2", "--prompt", "x --launch", "--launch=accelerate launch", "-o", "out"]
    assert _without(words, ("--processes", "--launch")) == ["a", "--prompt", "x --launch", "-o", "out"]


TWO = ["--processes", "2"]


def loratools(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "loratools", *words, "--device", "cpu"]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="gloo's rendezvous by localhost is not tested there")
def test_train_basestyle_and_grid_by_two_processes(tmp_path: Path) -> None:
    save_tiny_base(tmp_path / "tiny")
    (tmp_path / "images").mkdir()
    for number in range(3):
        Image.new("RGB", (64, 64), (number * 90, 20, 60)).save(tmp_path / f"images/{number}.png")
        (tmp_path / f"images/{number}.txt").write_text("girl, hat")
    save_lora(tmp_path / "a.safetensors", 0)
    trained = ["--epochs", "1", "--dim", "2", "--dtype", "fp32", "--name", "t", "-o"]
    train = ["train", "--base", "tiny", "--images", "images", "--batch-size", "2", *trained]
    base = ["basestyle", "tiny", "--images-per-framing", "3", *trained]
    drawn = ["--prompt", "hat", "--seed", "1-6", "--steps", "1", "--weights", "0,0.5,1", "-o"]
    grid = ["grid", "a.safetensors", "--base", "tiny", *drawn]
    for words in (train, base, grid):
        one, two = (loratools(tmp_path, *words, f"{words[0]}{n}", *more) for n, more in ((1, []), (2, TWO)))
        assert one.returncode == two.returncode == 0, (one.stderr, two.stderr)
        assert len(two.stdout.splitlines()) == len(one.stdout.splitlines()), two.stdout  # one of the two speaks
    assert "by other processes" in two.stdout  # of the grid
    for name in ("train", "basestyle"):
        (first,), (second,) = ([read(path) for path in (tmp_path / f"{name}{n}").glob("*.safetensors")] for n in (1, 2))
        apart = sum(float(torch.dist(delta.dense(), second[key].dense())) ** 2 for key, delta in first.items())
        assert apart <= (1e-3) ** 2 * sum(delta.norm() ** 2 for delta in first.values()), name
    for folder in (tmp_path / "basestyle", tmp_path / "grid"):
        one, two = (
            {path.relative_to(place).as_posix(): np.asarray(Image.open(path)) for path in place.rglob("*.png")}
            for place in (folder.with_name(f"{folder.name}{n}") for n in (1, 2))
        )
        assert one.keys() == two.keys() and len(one) >= 9
        assert all(np.array_equal(one[name], two[name]) for name in one if name != "grid.png"), folder


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="gloo's rendezvous by localhost is not tested there")
def test_a_recipe_is_tuned_the_same_by_two_processes(tmp_path: Path) -> None:
    """What the merge needs is made by the process that starts them; the first of them edits the recipe."""
    save_tiny_base(tmp_path / "tiny")
    for seed, name in enumerate("ab"):
        save_lora(tmp_path / f"{name}.safetensors", seed)
    (tmp_path / "prompts.txt").write_text(PROMPTS, encoding="utf-8")
    (tmp_path / "mine.py").write_text(MEASURE, encoding="utf-8")
    made = TUNED.replace("b:-1:GP2", "half:-1:GP2").replace("  final:", '  half: {merge: "b:0.5"}\n  final:')
    chosen = ["--symptom", "hands", "--merge", "final", "--seeds", "1", "--quick"]
    words = [*chosen, "--measure", "python=mine:bright", "-o"]
    for number, more in ((1, []), (2, TWO)):
        (tmp_path / f"r{number}.yaml").write_text(made, encoding="utf-8")
        done = loratools(tmp_path, "blocks", "tune", f"r{number}.yaml", *words, f"out{number}", *more)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("was edited") == 1, done.stdout
    texts = [(tmp_path / f"r{number}.yaml").read_text(encoding="utf-8") for number in (1, 2)]
    assert texts[0] != made and texts[1] == texts[0].replace("out1", "out2")
    first, second = (read(tmp_path / f"out{number}/tuned.safetensors").digest for number in (1, 2))
    assert first == second
