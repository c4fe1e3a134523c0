"""A verdict over a run's epochs is what `@best` means in recipes, and part of the keys of the steps that read it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from loratools.adapter.files.epoch_files import epochs
from loratools.adapter.files.file import read
from loratools.errors import RecipeError
from loratools.recipe.plan.context import RunContext
from loratools.recipe.plan.step import Planned
from loratools.recipe.run.runner import make_planner, run_steps
from loratools.train.output.recorded_verdict import FORMAT, epoch_digest, verdict_path
from tests.recipe.conftest import MODULES, save_lora
from tests.recipe.plan.conftest import plan

TEXT = """\
base: tiny
steps:
  merged: {merge: "x@best:0.5"}
  chosen: {select: {run: x}}
  resized: {resize: {lora: x@best, rank: 1}}
  row: {grid: {rows: x@best, prompts: p.txt, size: 64}}
  axis: {grid: {rows: x, x: "epoch: 1, best", prompts: p.txt, size: 64}}
  other: {merge: "x@2:0.5"}
  all: {grid: {rows: x, prompts: p.txt, size: 64}}
"""
READERS = {"merged", "chosen", "resized", "row", "axis"}


def write_verdict(run: Path, epoch: int, sentence: str = "because") -> Path:
    files = epochs(run)
    own = [{"epoch": each.number, "digest": epoch_digest(each)} for each in files]
    content = {"format": FORMAT, "epoch": epoch, "sentence": sentence, "epochs": own}
    verdict_path(files).write_text(json.dumps(content), encoding="utf-8")
    return verdict_path(files)


@pytest.fixture
def run(folder: Path) -> Path:
    for number in (1, 2, 3, 4):
        save_lora(folder / f"x/x-{number:06d}.safetensors", number)
    losses = [{"kind": "epoch", "epoch": n, "loss": loss} for n, loss in ((1, 0.4), (2, 0.3), (3, 0.1), (4, 0.2))]
    (folder / "x/x.jsonl").write_text("\n".join(map(json.dumps, losses)), encoding="utf-8")
    return folder / "x"


def stale(before: dict[str, Planned], after: dict[str, Planned]) -> set[str]:
    return {name for name in before if before[name].key != after[name].key}


def test_only_steps_that_read_best_follow_the_verdict(folder: Path, run: Path) -> None:
    before = plan(folder, TEXT)
    path = write_verdict(run, 2)
    two = plan(folder, TEXT)
    assert stale(before, two) == READERS
    write_verdict(run, 2, "another sentence")
    assert not stale(two, plan(folder, TEXT))
    write_verdict(run, 4)
    assert stale(two, plan(folder, TEXT)) == READERS
    save_lora(run / "x-000004.safetensors", 9)  # not the file that was judged any more
    shutil.copy(run / "x-000004.safetensors", folder / "again.safetensors")
    after = plan(folder, TEXT)
    path.unlink()
    assert not stale(after, plan(folder, TEXT))


def test_a_broken_verdict_is_told_at_the_step(folder: Path, run: Path) -> None:
    write_verdict(run, 2).write_text("{", encoding="utf-8")
    with pytest.raises(RecipeError, match=r"x\.verdict\.json is no verdict.*delete it"):
        plan(folder, TEXT, ["merged"])
    assert plan(folder, TEXT, ["other"])


def test_the_file_is_the_verdicts_epoch_and_is_made_again_with_another(folder: Path, run: Path) -> None:
    text = 'base: tiny\nsteps: {merged: {merge: "x@best:1"}, chosen: {select: {run: x}}}\n'
    (folder / "r.yaml").write_text(text, encoding="utf-8")
    seen = []
    for epoch in (None, 2, 4, 2):
        if epoch is not None:
            write_verdict(run, epoch)
        steps = make_planner(folder / "r.yaml", folder / "work").plan()
        results = run_steps(steps, folder / "work", RunContext(device="cpu"))
        wanted = read(run / f"x-{epoch or 3:06d}.safetensors")
        for name in ("merged", "chosen"):
            made = read(folder / f"work/{name}.safetensors")
            assert all(
                (made[module].dense() - wanted[module].dense()).norm() <= 1e-3 * wanted[module].dense().norm()
                for module in MODULES
            )
        seen.append([result.cached for result in results])
    assert seen[1] == [False, False] == seen[2]


def test_a_steps_own_run_counts_by_the_file_that_was_judged(folder: Path) -> None:
    text = (
        "base: tiny\nsteps:\n  pictures: {draw: {style: ink, count: 2, size: 64}}\n"
        "  style: {train: {images: pictures, epochs: 3, dim: 2}}\n  final: {merge: style@best}\n"
    )
    first = plan(folder, text)["final"].key
    out = folder / "work/style"
    for number in (1, 2, 3):
        save_lora(out / f"style-{number:06d}.safetensors", number)
    assert plan(folder, text)["final"].key == first
    write_verdict(out, 2)
    judged = plan(folder, text)["final"].key
    assert judged != first
    save_lora(out / "style-000002.safetensors", 7)  # trained anew
    assert plan(folder, text)["final"].key == first
    write_verdict(out, 2)  # the same number, of another file
    assert plan(folder, text)["final"].key not in (first, judged)
