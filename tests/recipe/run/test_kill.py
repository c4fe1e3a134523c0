"""A recipe killed at random moments, run by two processes at once, and stopped by Ctrl-C: the same bytes in the end."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from loratools.files import sha256

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork and no SIGKILL"),
    pytest.mark.slow,
]
ROOT = Path(__file__).parents[3]
RECIPE = """\
version: 1
base: tiny
steps:
  pictures: {draw: {style: ink, count: 2, size: 64}}
  style: {train: {images: pictures, epochs: 2, dim: 2, save_state_every_steps: 2}}
  half: {merge: "style@1:0.5", out: half.safetensors}
  final: {merge: "style@2:1:GP1, half:-1:GP2", out: mine.safetensors}
  sheet:
    grid: {rows: [style, final], weights: "0,1", prompts: "1girl, smile", steps: 1, sampler: Euler, size: 64}
"""
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "SOURCE_DATE_EPOCH": "1700000000"}


@pytest.fixture(scope="module")
def folder(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("kill")
    (place / "tiny").symlink_to(tiny_base, target_is_directory=True)
    (place / "r.yaml").write_text(RECIPE, encoding="utf-8")
    return place


@pytest.fixture(scope="module")
def whole(folder: Path) -> dict[str, str]:
    """The digests of a run that nobody stopped."""
    assert json.loads(killed(folder, "whole", "[]")) == [0]
    return digests(folder / "whole/work")


def killed(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tests.recipe.run.killed", "r.yaml", *arguments],
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def digests(work: Path) -> dict[str, str]:
    """Of every result: LoRAs, pictures, captions; not of logs and pages, which tell times."""
    kinds = {".safetensors", ".png", ".txt"}
    files = (path for path in work.rglob("*") if path.suffix in kinds and ".loratools" not in path.parts)
    return {str(path.relative_to(work)): sha256(path) for path in files}


def leftovers(work: Path) -> list[Path]:
    return [path for path in work.rglob("*") if path.suffix == ".part"]


def test_ten_kills_end_in_the_same_digests(folder: Path, whole: dict[str, str]) -> None:
    """Two while a state and an epoch are half on the disk, one in a merged file, and seven at random moments."""
    moments = [{"after": random.uniform(0.02, 0.5)} for _ in range(7)]
    kills = [
        {"while_writing": ".state.pt.*", "nth": 1},
        {"while_writing": ".style-000002.*", "nth": 1},
        *moments[:2],
        {"while_writing": ".mine.safetensors.*", "nth": 1},
        *moments[2:],
    ]
    signals = json.loads(killed(folder, "killed", json.dumps(kills)))
    assert signals[:2] == [signal.SIGKILL] * 2 and signals[-1] == 0, kills
    assert set(signals) == {signal.SIGKILL, 0} and signals.count(signal.SIGKILL) >= 5, (signals, kills)
    assert digests(folder / "killed/work") == whole and len(whole) > 10, kills
    assert not leftovers(folder / "killed"), kills


def test_two_at_once_over_one_cache_make_every_step_once(folder: Path, whole: dict[str, str]) -> None:
    made = json.loads(killed(folder, "one", "two", "--cache", "shared"))
    assert made == dict.fromkeys(("pictures", "style", "half", "final", "sheet"), 1)
    assert digests(folder / "one/work") == digests(folder / "two/work") == whole


def test_ctrl_c_says_how_to_go_on_and_leaves_nothing_half_done(folder: Path, whole: dict[str, str]) -> None:
    place = folder / "stopped"
    place.mkdir()
    command = [sys.executable, "-m", "loratools", "run", str(folder / "r.yaml"), "-o", "work", "--device", "cpu"]
    started = subprocess.Popen(
        command, cwd=place, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    log, deadline = place / "work/style/style.jsonl", time.monotonic() + 60
    while started.poll() is None and not log.exists() and time.monotonic() < deadline:
        time.sleep(0.002)
    started.send_signal(signal.SIGINT)
    _, errors = started.communicate(timeout=60)
    assert started.returncode == 130 and "run the same command again to go on" in errors, errors
    assert "Traceback" not in errors and not leftovers(place)
    assert not (place / "work/mine.safetensors").exists()
    again = subprocess.run(command, cwd=place, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert digests(place / "work") == whole
