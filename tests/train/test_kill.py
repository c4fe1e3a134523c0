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
from typing import Any

import pytest

from loratools.train.config.config import TrainConfig
from loratools.train.config.read import read_config
from loratools.train.output.diffusers_folder import MARK
from loratools.train.trainer import train

Config = Callable[..., TrainConfig]
Pictures = Callable[..., Path]
ROOT = Path(__file__).parents[2]


KILLABLE = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork and no SIGKILL")
FULL = {"network_type": "full", "preset": "full", "unet_lr": 1e-3, "te_lr": 1e-3, "ema": 0.9}
FULL_KINDS: dict[str, dict[str, Any]] = {
    "float32, checkpoints, a folder at the end": {"save_end": "diffusers", "mixed_precision": "no"},
    "bf16 within the backward pass, deltas, a LoRA at the end": {
        "weights": "bf16",
        "fused_backward_pass": "on",
        "max_grad_norm": 0,
        "save": "delta",
        "save_end": "lora:2",
    },
    "float32 beside bf16, clipped within the backward pass, Adafactor, a LoRA of every epoch": {
        "mixed_precision": "bf16",
        "fused_backward_pass": "on",
        "optimizer": "Adafactor",
        "optimizer_args": {"relative_step": False, "scale_parameter": False},
        "save": "lora:2",
    },
}


@KILLABLE
def test_a_run_killed_three_times_leaves_the_bytes_of_one_that_was_not(
    config: Config, pictures: Pictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    values = {"dim": 4, "alpha": 2, "learning_rate": 2e-3, "ema": 0.9, "save_every_steps": 3}
    kills = [
        {"after": random.uniform(0, 0.3)},
        {"while_writing": ".state.pt.*", "nth": random.randint(1, 4)},
        {"while_writing": ".t-000003.*", "nth": 1},
    ]
    nothing_is_lost(values, kills, config, pictures, tmp_path)


@KILLABLE
@pytest.mark.slow
@pytest.mark.parametrize("kind", FULL_KINDS)
def test_a_full_training_killed_in_a_step_a_state_and_its_files_leaves_the_same_bytes(
    kind: str, config: Config, pictures: Pictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    values = {**FULL, **FULL_KINDS[kind]}
    kills = [
        {"after": random.uniform(0, 0.3)},
        {"while_writing": ".state.pt.*", "nth": random.randint(1, 4)},
        {"while_writing": ".t-000002.*", "nth": 1},
        {"after": random.uniform(0, 0.3)},
        {"while_writing": ".t-000003.*", "nth": 1},
    ]
    if "save_end" in values:
        last = f".{MARK}.*" if values["save_end"] == "diffusers" else ".t-last.*"
        kills.append({"while_writing": last, "nth": 1})
    nothing_is_lost(values, kills, config, pictures, tmp_path)


def nothing_is_lost(
    values: dict[str, Any], kills: list[dict[str, Any]], config: Config, pictures: Pictures, folder: Path
) -> None:
    """A run with every kill in turn, each resumed, beside one that nobody stopped: equal files and counted steps."""
    images = pictures(count=4)
    whole, killed = folder / "whole", folder / "killed"
    given = {
        "base": config(images).base,
        "images": str(images),
        "name": "t",
        "device": "cpu",
        "epochs": 3,
        "batch_size": 1,
        "save_state_every_steps": 1,
        **values,
    }
    written = folder / "killed.yaml"
    written.write_text(json.dumps({**given, "out": str(killed)}))
    train(read_config(overrides={**given, "out": str(whole)})[0], progress=False)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.train.killed", str(written), json.dumps(kills)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [signal.SIGKILL] * len(kills) + [0], (kills, done.stderr)
    assert bytes_in(killed) == bytes_in(whole), kills
    assert not [path for path in killed.rglob("*") if path.suffix == ".part"]
    steps = [[line for line in lines(out) if line["kind"] in ("step", "epoch")] for out in (killed, whole)]
    counted = [[(line["kind"], line["step"], line["loss"]) for line in each] for each in steps]
    assert counted[0] == counted[1] and len(counted[0]) == 12 + 3, kills


def bytes_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.safetensors")}


def lines(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "t.jsonl").read_text().splitlines()]
