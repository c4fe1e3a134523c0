"""A recipe run by real processes: what it makes, says and leaves, also when one of them dies or it is stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from loratools.adapter.files.file import Adapter, read
from tests.recipe.conftest import save_lora

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL"),
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
    grid: {rows: [style, final], weights: "0,0.5,1", prompts: [smile, hat], seeds: [1, 2, 3, 4], steps: 1,
           sampler: Euler, size: 64}
"""
LONG = """\
version: 1
base: tiny
steps:
  pictures: {draw: {style: ink, count: 2, size: 64}}
  long: {train: {images: pictures, epochs: 40, dim: 2, batch_size: 2, save_state_every_steps: 2, save_last_n: 1}}
  half: {merge: "long:0.5", out: half.safetensors}
"""
GRID = """\
version: 1
base: tiny
steps:
  sheet:
    grid: {rows: kept, weights: "0:1:0.05", prompts: [smile, hat], seeds: 1-4, steps: 12, sampler: Euler, size: 64}
"""
TUNE = """\
version: 1
base: tiny
steps:
  better: {tune: {lora: "a:1:GP1", symptom: hands, measure: "python=mine:bright", prompts: prompts.txt, seeds: [1],
                  steps: 2, quick: true}}
"""
MEASURE = """\
def bright(images, prompts, seeds):
    return [sum(image.convert("L").histogram()[128:]) for image in images]
"""
FAILING = """\
version: 1
base: tiny
processes: 2
steps:
  pictures: {draw: {style: ink, count: 3, size: 64}}
  hot: {train: {images: pictures, epochs: 1, dim: 2, learning_rate: 1.0e+30}}
  after: {merge: "hot:1"}
  others: {draw: {style: ink, count: 1, size: 64}}
  other: {train: {images: others, epochs: 1, dim: 2}}
"""
ACCELERATE = (
    "accelerate launch --multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no --dynamo_backend no "
    "--main_process_port 0"
)
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "SOURCE_DATE_EPOCH": "1700000000"}
TWO = ("--processes", "2")
Done = subprocess.CompletedProcess[str]


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "loratools", *arguments, "--device", "cpu"]


@pytest.fixture(scope="module")
def folder(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("launch")
    (place / "tiny").symlink_to(tiny_base, target_is_directory=True)
    for name, text in {"r": RECIPE, "long": LONG, "grid": GRID, "tune": TUNE, "failing": FAILING}.items():
        (place / f"{name}.yaml").write_text(text, encoding="utf-8")
    return place


@pytest.fixture(scope="module")
def loratools(folder: Path) -> Callable[..., Done]:
    def run(*arguments: str) -> Done:
        return subprocess.run(
            command(*arguments), cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=400, check=False
        )

    return run


@pytest.fixture(scope="module")
def one(loratools: Callable[..., Done]) -> Done:
    done = loratools("run", "r.yaml", "-o", "one")
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def two(loratools: Callable[..., Done]) -> Done:
    done = loratools("run", "r.yaml", "-o", "two", *TWO)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def long(loratools: Callable[..., Done]) -> Done:
    """The long training, by one process and in one go."""
    done = loratools("run", "long.yaml", "-o", "whole")
    assert done.returncode == 0, done.stderr
    return done


def loras(work: Path) -> dict[str, Adapter]:
    files = (path for path in work.rglob("*.safetensors") if ".loratools" not in path.parts)
    return {path.relative_to(work).as_posix(): read(path) for path in files}


def results(work: Path) -> dict[str, Any]:
    """The digests of all LoRAs and the pixels of all pictures; headers tell folders."""
    pictures = (path for path in work.rglob("*.png") if ".loratools" not in path.parts)
    pixels = {path.relative_to(work).as_posix(): Image.open(path).tobytes() for path in pictures}
    return {name: lora.digest for name, lora in loras(work).items()} | pixels


def alike(some: dict[str, Adapter], others: dict[str, Adapter]) -> bool:
    """Whether the LoRAs are the same up to the rounding of sums in another order."""
    if some.keys() != others.keys():
        return False
    for name, one in some.items():
        apart = sum(float((delta.dense() - others[name][key].dense()).norm()) ** 2 for key, delta in one.items())
        if apart > (1e-3) ** 2 * sum(delta.norm() ** 2 for delta in one.values()):
            return False
    return bool(some)


def test_two_processes_make_the_same_bytes_and_one_speaks(folder: Path, one: Done, two: Done) -> None:
    assert len(two.stdout.splitlines()) == 6 and two.stdout.count("mean loss") == 2
    assert "2 rows, 40 pictures, 40 of them rendered now" in two.stdout  # each process rendered a part of them
    assert (folder / "two/sheet/grid.png").is_file() and (folder / "two/report.html").is_file()
    assert results(folder / "one") == results(folder / "two")  # each training had a process of its own
    assert not (folder / "two/.loratools/launch").exists() and not (folder / "two/sheet/.claims").exists()
    assert "Traceback" not in two.stderr and "torch" not in two.stderr


def test_a_launcher_starts_the_steps_that_gain_and_one_process_speaks(
    folder: Path, loratools: Callable[..., Done], one: Done
) -> None:
    """Each training is one of two processes here, so its sums are rounded in another order."""
    done = loratools("run", "r.yaml", "-o", "launched", "--launch", ACCELERATE)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 6
    assert alike(loras(folder / "one"), loras(folder / "launched"))
    of_one, of_two = results(folder / "one"), results(folder / "launched")
    drawn = [name for name in of_one if "images" in name or "base/0" in name]  # what the base alone draws
    assert of_one.keys() == of_two.keys() and len(drawn) == 11
    assert all(of_one[name] == of_two[name] for name in drawn)


def test_again_everything_comes_from_the_cache(loratools: Callable[..., Done], two: Done) -> None:
    begun = time.monotonic()
    done = loratools("run", "r.yaml", "-o", "two", *TWO)
    assert done.returncode == 0 and done.stdout.count("cached") == 5, done.stderr
    assert time.monotonic() - begun < 60
    planned = loratools("run", "r.yaml", "-o", "two", *TWO, "--dry-run")
    assert planned.returncode == 0 and planned.stdout.count("cached") == 5


class Running:
    """``loratools run`` in the background, and the processes that it has launched."""

    def __init__(self, folder: Path, recipe: str, work: str) -> None:
        self.work = folder / work
        self._said = [open(folder / f"{work}.{name}", "w") for name in ("out", "err")]  # noqa: SIM115
        self.process = subprocess.Popen(
            command("run", recipe, "-o", work, *TWO),
            cwd=folder,
            env=ENVIRONMENT,
            stdout=self._said[0],
            stderr=self._said[1],
        )

    def wait_until(self, begun: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 120
        while not begun() and self.process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        assert begun(), self.said()

    def pids(self) -> dict[int, int]:
        """Rank -> process, of the job that runs."""
        started = sorted(self.work.glob(".loratools/launch/**/*.started"))
        return {int(path.stem): json.loads(path.read_text())["pid"] for path in started}

    def end(self) -> int:
        code = self.process.wait(120)
        for stream in self._said:
            stream.close()
        return code

    def said(self) -> str:
        return "".join(Path(stream.name).read_text() for stream in self._said)


def steps_of(work: Path, name: str) -> int:
    """Optimiser steps in a run's log."""
    log = work / name / f"{name}.jsonl"
    return log.read_text().count('"step"') if log.is_file() else 0


def gone(pids: list[int]) -> bool:
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline:
        if not any(Path(f"/proc/{pid}").exists() for pid in pids):
            return True
        time.sleep(0.1)
    return False


def test_when_the_process_that_started_them_dies_the_others_end_and_the_next_run_goes_on(
    folder: Path, loratools: Callable[..., Done], long: Done
) -> None:
    running = Running(folder, "long.yaml", "orphans")
    running.wait_until(lambda: steps_of(running.work, "long") >= 4)
    pids = list(running.pids().values())
    running.process.kill()
    running.end()
    assert len(pids) == 2 and gone(pids)
    assert running.said().count("error: the process that started this one is gone; run the same again to go on") == 1
    again = loratools("run", "long.yaml", "-o", "orphans", *TWO)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("cached") == 1 and alike(loras(folder / "whole"), loras(folder / "orphans"))
    assert steps_of(folder / "orphans", "long") == steps_of(folder / "whole", "long")


def test_when_another_process_dies_in_training_the_step_fails_and_names_it(
    folder: Path, loratools: Callable[..., Done]
) -> None:
    running = Running(folder, "long.yaml", "died")
    running.wait_until(lambda: steps_of(running.work, "long") >= 4)
    pids = running.pids()
    os.kill(pids[1], signal.SIGKILL)
    assert running.end() == 1 and gone(list(pids.values()))
    assert "the step 'long' failed; not run, since they need it: half" in running.said()
    message = "error: process 2 of 2 is gone (SIGKILL), perhaps for lack of memory; run the same again to go on from"
    assert message in running.said() and "Traceback" not in running.said()
    again = loratools("run", "long.yaml", "-o", "died", *TWO)
    assert again.returncode == 0 and again.stdout.count("cached") == 1, again.stderr


def test_ctrl_c_ends_all_saves_the_state_and_says_how_to_go_on(
    folder: Path, loratools: Callable[..., Done], long: Done
) -> None:
    running = Running(folder, "long.yaml", "stopped")
    running.wait_until(lambda: steps_of(running.work, "long") >= 4)
    pids = list(running.pids().values())
    running.process.send_signal(signal.SIGINT)
    assert running.end() == 130 and gone(pids)
    assert "run the same command again to go on" in running.said() and "Traceback" not in running.said()
    again = loratools("run", "long.yaml", "-o", "stopped", *TWO)
    assert again.returncode == 0 and alike(loras(folder / "whole"), loras(folder / "stopped")), again.stderr
    assert not (running.work / ".loratools/launch").exists()


def test_a_grid_whose_other_process_dies_is_finished_without_it(
    folder: Path, loratools: Callable[..., Done], two: Done
) -> None:
    (folder / "kept.safetensors").write_bytes((folder / "two/mine.safetensors").read_bytes())
    running = Running(folder, "grid.yaml", "less")
    running.wait_until(lambda: len(list(running.work.rglob("cells/**/*.png"))) > 2)
    pids = running.pids()
    os.kill(pids[1], signal.SIGKILL)
    assert running.end() == 0, running.said()
    note = "the step 'sheet' is whole, though the other processes had to do without one: process 2 of 2 is gone"
    assert note in running.said() and "1 rows, 168 pictures" in running.said()
    alone = loratools("run", "grid.yaml", "-o", "alone")
    assert alone.returncode == 0 and results(folder / "less") == results(folder / "alone")


def test_a_tune_that_two_share_finds_the_same(folder: Path, loratools: Callable[..., Done]) -> None:
    save_lora(folder / "a.safetensors", 1)
    (folder / "prompts.txt").write_text("1girl, smile\n1girl, hat\n1girl, red hair\n1girl\n", encoding="utf-8")
    (folder / "mine.py").write_text(MEASURE, encoding="utf-8")
    for name, more in (("tuned1", ()), ("tuned2", TWO)):
        done = loratools("run", "tune.yaml", "-o", name, *more)
        assert done.returncode == 0 and "better.safetensors" in done.stdout, done.stderr
    first, second = (read(folder / name / "better.safetensors") for name in ("tuned1", "tuned2"))
    assert first.digest == second.digest


def test_a_step_that_fails_is_reported_once_and_others_are_made(folder: Path, loratools: Callable[..., Done]) -> None:
    done = loratools("run", "failing.yaml", "-o", "failing")  # the recipe itself asks for two processes
    assert done.returncode == 1
    assert done.stderr.count("error: training diverged") == 1, done.stderr
    assert "not run, since they need it: after" in done.stderr and "Traceback" not in done.stderr
    assert (folder / "failing/other/other-000001.safetensors").is_file()


def test_a_file_is_made_again_and_an_edit_rendered_by_several(
    folder: Path, loratools: Callable[..., Done], two: Done
) -> None:
    again = loratools("reproduce", "two/mine.safetensors", *TWO)
    assert again.returncode == 0 and again.stdout.startswith("the same: digest"), (again.stdout, again.stderr)
    strips = []
    for work, more in (("fix1", ()), ("fix2", TWO)):
        fix = ("blocks", "fix", "r.yaml", "--symptom", "hands", "--preview-step", "-o", work)
        done = loratools(*fix, *more)
        assert done.returncode == 0, done.stderr
        strips.append(Image.open(folder / work / "fix-sizes/strip.png").tobytes())
    assert strips[0] == strips[1]
