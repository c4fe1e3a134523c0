"""Two real processes over gloo against one, and what is said when they cannot work."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from loratools.adapter.files.file import read
from loratools.errors import LaunchError, TrainingError
from loratools.train.config.config import TrainConfig
from loratools.train.distributed import Ranks, join
from loratools.train.trainer import train

Config = Callable[..., TrainConfig]
Pictures = Callable[..., Path]
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_every_row_has_one_process(count: int) -> None:
    for world in (1, 2, 3):
        parts = [Ranks(rank, world).rows(count) for rank in range(world)]
        rows = [row for first, last in parts for row in range(first, last)]
        assert rows == list(range(count))
        sizes = [last - first for first, last in parts]
        assert max(sizes) - min(sizes) <= 1


def test_one_process_needs_no_group() -> None:
    assert join("cuda:3", {}) == (Ranks(), "cuda:3")
    flat = torch.ones(2)
    Ranks().sum(flat)
    assert flat.tolist() == [1, 1]


def test_a_half_set_environment_and_one_device_for_two_are_errors() -> None:
    with pytest.raises(LaunchError, match="RANK is not set; start several processes by accelerate launch"):
        join("auto", {"WORLD_SIZE": "2"})
    with pytest.raises(TrainingError, match="names one device for 2 processes"):
        join("cuda:1", {"WORLD_SIZE": "2", "RANK": "0"})


def test_two_processes_learn_what_one_does(config: Config, pictures: Pictures, tmp_path: Path) -> None:
    """Three pictures in batches of two: of the last, smaller batch one of the processes has no row at all."""
    looking = {"validate_every_epochs": 1, "sample_prompts": ["1girl --s 1"], "save_state_every_steps": 1}
    settings = config(pictures(count=3), epochs=2, dtype="fp32", out=str(tmp_path / "one"), **looking)
    one = train(settings, progress=False)
    written = tmp_path / "c.yaml"
    values = {
        "base": settings.base,
        "images": str(settings.images[0].folder),
        "out": str(tmp_path / "two"),
        "name": "t",
        "epochs": 2,
        "batch_size": 2,
        "dim": 4,
        "alpha": 2,
        "learning_rate": 2e-3,
        "dtype": "fp32",
        "device": "cpu",
        **looking,
    }
    written.write_text(json.dumps(values))
    done = _launched("loratools", "train", str(written))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("epochs of t in") == 1  # one of the two speaks
    losses = [_losses(folder / "t.jsonl") for folder in (tmp_path / "one", tmp_path / "two")]
    assert len(losses[0]) == 4 and losses[1] == pytest.approx(losses[0], rel=1e-5)
    for kind in ("validation", "losses"):  # each process measured its share
        mine, theirs = (
            [_by_image(line) for line in _lines(tmp_path / place / "t.jsonl", kind)] for place in ("one", "two")
        )
        assert len(mine) == len(theirs) and all(
            a == pytest.approx(b, rel=1e-4) for a, b in zip(mine, theirs, strict=True)
        )
    assert (tmp_path / "two" / "t-samples" / "e000002_01.png").is_file()
    two = sorted((tmp_path / "two").glob("*.safetensors"))
    assert [path.name for path in two] == [path.name for path in one.epochs]
    alone, both = read(one.epochs[-1]), read(two[-1])
    # over all modules: Adam turns the rounding of a module without any gradient into steps of random sign
    apart = sum(float((alone[name].dense() - both[name].dense()).norm()) ** 2 for name in alone)
    assert apart <= (1e-3) ** 2 * sum(delta.norm() ** 2 for delta in alone.values())


def _launched(*module: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", *module]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240, check=False)


def _losses(log: Path) -> list[float]:
    return [line["loss"] for line in _lines(log, "step")]


def _by_image(line: dict[str, Any]) -> dict[str, float]:
    images: dict[str, float] = line["images"]
    return images


def _lines(log: Path, kind: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return [line for line in lines if line["kind"] == kind]
