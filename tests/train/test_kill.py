"""SIGKILL, three times in one run: at a random moment, and while a state and an epoch's file are half on the disk."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from loratools.train.config.config import TrainConfig
from loratools.train.trainer import train

Config = Callable[..., TrainConfig]
Pictures = Callable[..., Path]
ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork and no SIGKILL")
def test_a_run_killed_three_times_leaves_the_bytes_of_one_that_was_not(
    config: Config, pictures: Pictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    values = {"epochs": 3, "batch_size": 1, "ema": 0.9, "save_state_every_steps": 1, "save_every_steps": 3}
    train(config(pictures(count=4), out=str(tmp_path / "whole"), **values), progress=False)
    images, killed = tmp_path / "images", tmp_path / "killed"
    given = {
        "base": config(images).base,
        "images": str(images),
        "out": str(killed),
        "name": "t",
        "dim": 4,
        "alpha": 2,
        "learning_rate": 2e-3,
        "device": "cpu",
        **values,
    }
    written = tmp_path / "killed.yaml"
    written.write_text(json.dumps(given))
    kills = [
        {"after": random.uniform(0, 0.3)},
        {"while_writing": ".state.pt.*", "nth": random.randint(1, 4)},
        {"while_writing": ".t-000003.*", "nth": 1},
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.train.killed", str(written), json.dumps(kills)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [signal.SIGKILL] * 3 + [0], (kills, done.stderr)
    assert bytes_in(killed) == bytes_in(tmp_path / "whole"), kills
    assert not [path for path in killed.rglob("*") if path.suffix == ".part"]
    steps = [
        [line for line in lines(folder) if line["kind"] in ("step", "epoch")] for folder in (killed, tmp_path / "whole")
    ]
    counted = [[(line["kind"], line["step"], line["loss"]) for line in each] for each in steps]
    assert counted[0] == counted[1] and len(counted[0]) == 12 + 3, kills


def bytes_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}


def lines(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "t.jsonl").read_text().splitlines()]
