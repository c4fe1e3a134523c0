"""A recipe run by two real processes: what each of them says and leaves, also when one of them dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from loratools.adapter.files.file import Adapter, read
from loratools.recipe.launch.protocol import LaunchFolder, Message, root_of

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork and no SIGKILL"),
    pytest.mark.slow,
]
ROOT = Path(__file__).parents[3]
RECIPE = """\
version: 1
base: tiny
steps:
  pictures: {draw: {style: ink, count: 3, size: 64}}
  style: {train: {images: pictures, epochs: 1, dim: 2, batch_size: 2, dtype: fp32}}
  base_style: {basestyle: {images_per_framing: 1, epochs: 1, dim: 2, batch_size: 2, steps: 1, sampler: Euler}}
  final: {merge: "style:1:GP1, base_style:-1:GP2", out: mine.safetensors}
  sheet:
    grid: {rows: [style, final], weights: "0,1", prompts: "1girl, smile", steps: 1, sampler: Euler, size: 64}
"""
FAILING = """\
version: 1
base: tiny
steps:
  pictures: {draw: {style: ink, count: 3, size: 64}}
  hot: {train: {images: pictures, epochs: 1, dim: 2, learning_rate: 1.0e+30}}
  after: {merge: "hot:1"}
  others: {draw: {style: ink, count: 1, size: 64}}
  other: {train: {images: others, epochs: 1, dim: 2}}
"""
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "SOURCE_DATE_EPOCH": "1700000000"}
GOES_ON = "launch the same again"


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=400, check=False
    )


def arguments(work: str, recipe: str = "r.yaml") -> list[str]:
    return ["run", recipe, "-o", work, "--device", "cpu"]


@pytest.fixture(scope="module")
def folder(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("launch")
    (place / "tiny").symlink_to(tiny_base, target_is_directory=True)
    (place / "r.yaml").write_text(RECIPE, encoding="utf-8")
    (place / "failing.yaml").write_text(FAILING, encoding="utf-8")
    leftover = LaunchFolder(root_of(place / "two") / "left")  # of an earlier launch that was killed
    leftover.post(Message(7, "share", "", {"1": "nobody"}, step="style", needed=True))
    return place


@pytest.fixture(scope="module")
def whole(folder: Path) -> subprocess.CompletedProcess[str]:
    """From nothing to the grid, by the launcher that the documentation names."""
    start = [
        "--multi_gpu",
        "--num_processes",
        "2",
        "--num_machines",
        "1",
        "--mixed_precision",
        "no",
        "--dynamo_backend",
        "no",
        "--main_process_port",
        "0",
    ]
    command = [sys.executable, "-m", "accelerate.commands.launch", *start, "-m", "loratools", *arguments("two")]
    return subprocess.run(
        command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=240, check=False
    )


@pytest.fixture(scope="module")
def runs(folder: Path, whole: subprocess.CompletedProcess[str]) -> dict[str, list[dict[str, Any]]]:
    """For each run, for each process: its status and what it said."""
    assert whole.returncode == 0, whole.stderr
    wanted: dict[str, dict[str, Any]] = {
        "one": {"args": arguments("one"), "world": 1},
        "cached": {"args": arguments("two")},
        "planned": {"args": [*arguments("two"), "--dry-run"]},
        "first dies": {
            "args": arguments("first"),
            "dies": {"rank": 0, "while_writing": ".mine.safetensors.*", "nth": 1},
        },
        "first again": {"args": arguments("first")},
        "other dies": {"args": arguments("other"), "dies": {"rank": 1, "step": 1}},
        "failing": {"args": arguments("failing", "failing.yaml")},
    }
    command = [sys.executable, "-m", "tests.recipe.launch.launched", json.dumps(list(wanted.values()))]
    done = subprocess.run(
        command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=400, check=False
    )
    assert done.returncode == 0, done.stderr
    return dict(zip(wanted, json.loads(done.stdout), strict=True))


def statuses(run: list[dict[str, Any]]) -> list[int | None]:
    return [process["status"] for process in run]


def loras(work: Path) -> dict[str, Adapter]:
    files = (path for path in work.rglob("*.safetensors") if ".loratools" not in path.parts)
    return {path.relative_to(work).as_posix(): read(path) for path in files}


def results(work: Path) -> dict[str, Any]:
    """The digests of all LoRAs and the pixels of all pictures; headers tell folders."""
    pictures = (path for path in work.rglob("*.png") if ".loratools" not in path.parts)
    pixels = {path.relative_to(work).as_posix(): Image.open(path).tobytes() for path in pictures}
    return {name: lora.digest for name, lora in loras(work).items()} | pixels


def test_accelerate_launch_runs_every_step_once_and_one_process_speaks(
    folder: Path, whole: subprocess.CompletedProcess[str]
) -> None:
    assert whole.returncode == 0, whole.stderr
    assert len(whole.stdout.splitlines()) == 6 and whole.stdout.count("mean loss") == 2
    assert "2 rows, 3 pictures, 3 of them rendered now" in whole.stdout
    assert (folder / "two/sheet/grid.png").is_file() and (folder / "two/report.html").is_file()
    assert not root_of(folder / "two").exists() and not (folder / "two/sheet/.claims").exists()


def test_one_process_makes_the_same(folder: Path, runs: dict[str, Any]) -> None:
    assert statuses(runs["one"]) == [0], runs["one"]
    one, two = loras(folder / "one"), loras(folder / "two")
    assert one.keys() == two.keys() and len(one) == 3
    for name, alone in one.items():
        apart = sum(float((delta.dense() - two[name][key].dense()).norm()) ** 2 for key, delta in alone.items())
        assert apart <= (1e-3) ** 2 * sum(delta.norm() ** 2 for delta in alone.values()), name
    of_one, of_two = results(folder / "one"), results(folder / "two")
    drawn = [name for name in of_one if "images" in name or "base/0" in name]  # what the base alone draws
    assert of_one.keys() == of_two.keys() and len(drawn) == 4
    assert all(of_one[name] == of_two[name] for name in drawn)


def test_again_everything_comes_from_the_cache(runs: dict[str, Any]) -> None:
    assert statuses(runs["cached"]) == [0, 0], runs["cached"]
    first, other = (process["said"] for process in runs["cached"])
    assert first.count("cached") == 5 and other == ""


def test_a_dry_run_is_printed_once(runs: dict[str, Any]) -> None:
    assert statuses(runs["planned"]) == [0, 0], runs["planned"]
    assert "sheet" in runs["planned"][0]["said"] and runs["planned"][1]["said"] == ""


def test_when_the_first_process_dies_the_other_ends_and_the_next_launch_goes_on(
    folder: Path, runs: dict[str, Any]
) -> None:
    assert statuses(runs["first dies"]) == [-signal.SIGKILL, 1], runs["first dies"]
    assert f"error: the first process of this launch is gone; {GOES_ON}" in runs["first dies"][1]["said"]
    assert statuses(runs["first again"]) == [0, 0], runs["first again"]
    assert runs["first again"][0]["said"].count("cached") == 3
    assert results(folder / "first") == results(folder / "two")


def test_when_another_dies_in_training_the_step_fails(runs: dict[str, Any]) -> None:
    assert statuses(runs["other dies"]) == [1, -signal.SIGKILL], runs["other dies"]
    said = runs["other dies"][0]["said"]
    assert "the step 'style' failed" in said and "error: another process of this run stopped" in said
    assert f"process 2 of 2 is gone, and the step 'base_style' needs all of them; {GOES_ON}" in said


def test_a_step_that_fails_is_reported_once_and_others_are_made(folder: Path, runs: dict[str, Any]) -> None:
    assert statuses(runs["failing"]) == [1, 1], runs["failing"]
    first, other = (process["said"] for process in runs["failing"])
    assert "error: training diverged" in first and "not run, since they need it: after" in first
    assert other.strip() == "error: the run has failed, and the first process of this launch says why"
    assert (folder / "failing/other/other-000001.safetensors").is_file()
