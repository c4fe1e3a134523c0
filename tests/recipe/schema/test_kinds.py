"""Every kind of step through the command line, with the report that a run ends with."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from loratools.adapter.files.file import read
from loratools.errors import FileError
from loratools.recipe.observer import RunObserver, StepFailure, StepResult
from loratools.recipe.plan.context import RunContext
from loratools.recipe.plan.step import Draft, Outcome, Planned, StepInput
from loratools.recipe.report import page, write
from loratools.recipe.run.runner import make_planner, run_steps
from loratools.recipe.run.scheduler import run_in_order
from loratools.recipe.schema.kinds import STEP_KINDS
from loratools.tune.problem import effort
from loratools.tune.problem.effort import Effort
from tests.cli.test_cli import call
from tests.dataset.tagging.graphs import wd_tagger
from tests.recipe.conftest import save_lora

RECIPE = """\
base: tiny
steps:
  pictures: {draw: {style: ink, count: 2, size: 64}}
  prepared: {prepare: {images: pictures, resolution: 64}}
  tagged: {tag: {images: prepared, tagger: wd/model.onnx, existing: append}}
  edited: {edit_tags: {images: tagged, edits: [{trigger: ink}]}}
  balanced: {balance: {images: edited, rule: guide-003, steps: 2, epochs: 1}}
  style: {train: {images: balanced, epochs: 2, dim: 2}}
  base_style: {basestyle: {images_per_framing: 1, epochs: 1, dim: 2, steps: 1, sampler: Euler}}
  chosen: {select: {run: style, epoch: last}}
  mixed: {merge: "a:1:GP1, b:-0.5:GP2"}
  clean: {subtract: {style: style@2, base_style: base_style@1}}
  mean: {soup: style@1-2}
  moved: {fix: {merge: mixed, symptoms: hands}}
  tuned: {tune: {lora: a, symptom: hands, measure: "python=kinds_measure:bright", prompts: [smile, hat], seeds: 1, quick: true}}
  small: {resize: {lora: mixed, rank: 1}}
  spelled: {convert: {lora: a, to: diffusers}}
  baked: {merge_into: {terms: "style@2:1:te=0", into: base}}
  back: {extract: {tuned: baked, rank: 2}}
  sheet: {grid: {rows: [chosen, back], weights: 1, prompts: smile, steps: 1, sampler: Euler, size: 64}}
  shared: {publish: {lora: mixed, preview: none}}
"""  # noqa: E501
MEASURE = (
    "def bright(images, prompts, seeds):\n    return [sum(image.convert('L').histogram()[128:]) for image in images]\n"
)
SMALL = Effort(
    prompts=1,
    held_out=1,
    pool=1,
    shots=1,
    population=4,
    screening=8,
    generations=1,
    checks=1,
    fresh=1,
    strengths=(0.7,),
    steps=1,
)

SEVERAL = """\
base: tiny
steps:
  one: {draw: {style: ink, count: 2, size: 64}}
  two: {draw: {style: ink, count: 2, size: 64, seed: 2}}
  style: {train: {images: one, epochs: 1, dim: 2, network_dropout: 0.1}}
  other: {train: {images: two, epochs: 2, dim: 2}}
  base_style: {basestyle: {images_per_framing: 1, epochs: 1, dim: 2, steps: 1, sampler: Euler}}
  mixed: {merge: "style@1:1, base_style@1:-1"}
"""


@pytest.fixture
def folder(here: Path, tiny_base: Path) -> Path:
    (here / "tiny").symlink_to(tiny_base, target_is_directory=True)
    for seed, name in enumerate("ab"):
        save_lora(here / f"{name}.safetensors", seed)
    wd_tagger(here / "wd")
    (here / "r.yaml").write_text(RECIPE, encoding="utf-8")
    return here


def test_every_kind_runs_and_is_reported(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(effort, "QUICK", SMALL)
    (folder / "kinds_measure.py").write_text(MEASURE, encoding="utf-8")
    done = call("run", "r.yaml", "--device", "cpu")
    assert done.exit_code == 0, done.output
    steps = json.loads((folder / "runs/r/run.json").read_text(encoding="utf-8"))["steps"]
    assert {step["kind"] for step in steps} == set(STEP_KINDS)
    assert {step["state"] for step in steps} == {"made"}
    shown = (folder / "runs/r/report.html").read_text(encoding="utf-8")
    assert shown.count("relative error against the exact sum") >= 7


def test_two_jobs_load_models_in_turn_and_make_the_same(folder: Path) -> None:
    """Two threads that loaded a base at once ended in `Cannot copy out of meta tensor`."""
    (folder / "j.yaml").write_text(SEVERAL, encoding="utf-8")
    for jobs in ("1", "2"):
        done = call("run", "j.yaml", "--device", "cpu", "--jobs", jobs, "-o", jobs)
        assert done.exit_code == 0, done.output
    runs = [
        {path.relative_to(work): read(path).digest for path in work.glob("*/*.safetensors")}
        for work in (folder / "1", folder / "2")
    ]
    assert len(runs[0]) == 4 and runs[0] == runs[1]


def planned(name: str, kind: str, *needs: str) -> Planned:
    sources = tuple(StepInput(need, Path(need), "", need) for need in needs)
    return Planned(name, kind, Draft({}, sources, lambda out, context: Outcome("")), Path(name), name, 1, "")


def test_a_step_that_loads_a_model_has_torch_to_itself() -> None:
    steps = [
        planned("style", "train"),
        planned("base", "basestyle"),
        planned("one", "merge"),
        planned("two", "merge"),
        planned("pictures", "draw"),
        planned("more", "draw"),
        planned("sheet", "grid", "one", "style"),
        planned("small", "resize", "one"),
    ]
    seen, running, lock = list[set[str]](), set[str](), threading.Lock()

    def run(step: Planned, places: Sequence[int]) -> str:
        with lock:
            running.add(step.kind if step.kind != "merge" else step.name)
            seen.append(set(running))
        assert (threading.current_thread() is threading.main_thread()) == (step.kind in ("train", "basestyle", "grid"))
        time.sleep(0.05)
        with lock:
            running.discard(step.kind if step.kind != "merge" else step.name)
        return step.name

    done, failures = run_in_order(steps, run, 3)
    assert done == [step.name for step in steps] and not failures
    for kinds in seen:
        assert not kinds & {"train", "basestyle", "grid"} or len(kinds - {"draw"}) == 1, kinds
    assert {"one", "two"} in seen or {"one", "two", "draw"} in seen


def test_one_job_keeps_the_order_of_the_recipe() -> None:
    steps = [planned("a", "merge"), planned("b", "grid", "a"), planned("c", "merge")]
    order: list[str] = []
    run_in_order(steps, lambda step, places: order.append(step.name), 1)
    assert order == ["a", "b", "c"]


def test_an_error_by_block_is_a_number_or_one_among_other_facts() -> None:
    blocks = {"IN01": 0.5, "M00": {"error": 0.25, "modules": 2}, "OUT03": float("nan")}
    (paragraph,) = page._errors({"result": {"error": 0.4, "blocks": blocks}})
    assert "<b>4.0e-01</b>; most in IN01 5.0e-01, M00 2.5e-01</p>" in paragraph


def test_a_broken_report_neither_fails_a_run_nor_hides_its_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> str:
        raise AttributeError("no such thing")

    monkeypatch.setattr(write, "draw", broken)
    good = call("run", "r.yaml", "--only", "mixed")
    assert good.exit_code == 0 and "no report of this run (AttributeError: no such thing)" in good.stderr
    (folder / "runs/r/small.safetensors").write_bytes(b"somebody's own")
    bad = call("run", "r.yaml", "--only", "small")
    assert bad.exit_code == 1 and "AttributeError" in bad.stderr
    assert bad.stderr.splitlines()[-1].startswith("error: ") and "small.safetensors" in bad.stderr.splitlines()[-1]


def test_an_ending_that_fails_does_not_hide_the_error_of_a_step(folder: Path) -> None:
    planner = make_planner("r.yaml", Path("work"))
    (folder / "work").mkdir()
    (folder / "work/mixed.safetensors").write_bytes(b"somebody's own")

    class Broken(RunObserver):
        def on_end(self, results: Sequence[StepResult], failures: Sequence[StepFailure]) -> None:
            raise ValueError("no")

    with pytest.raises(FileError, match="force=True"):
        run_steps(planner.plan(["mixed"]), Path("work"), RunContext(device="cpu"), observer=Broken())


def test_what_a_run_reads_is_found_beside_the_recipe(folder: Path, tiny_base: Path) -> None:
    """From another current folder; and a run keeps only the epochs that it is told to."""
    shutil.copytree(tiny_base / "vae", folder / "mine")
    (folder / "prompts.txt").write_text("1girl --s 1\n", encoding="utf-8")
    more = "vae: mine, sample_prompts: prompts.txt, save_last_n: 1, epochs: 2, dim: 2"
    (folder / "v.yaml").write_text(
        "base: tiny\nsteps:\n  pictures: {draw: {style: ink, count: 1, size: 64}}\n"
        f"  style: {{train: {{images: pictures, {more}}}}}\n"
        f"  base_style: {{basestyle: {{images_per_framing: 1, steps: 1, sampler: Euler, {more}}}}}\n",
        encoding="utf-8",
    )
    (folder / "elsewhere").mkdir()
    os.chdir(folder / "elsewhere")
    done = call("run", "../v.yaml", "--device", "cpu", "-o", "work")
    assert done.exit_code == 0, done.output
    for name in ("style", "base_style"):
        assert [path.name for path in Path("work", name).glob("*.safetensors")] == [f"{name}-000002.safetensors"]
        assert list(Path("work", name).rglob("*sample*"))
