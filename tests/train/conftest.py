"""A tiny base, made once, and folders of captioned pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from loratools.train.config.config import TrainConfig
from loratools.train.config.read import make_config
from tests.tiny import save_tiny_base


@pytest.fixture(scope="package", autouse=True)
def _one_thread() -> Iterator[None]:
    """Models this small are faster on one thread, and do not wait for other test processes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_base(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture
def pictures(tmp_path: Path) -> Callable[..., Path]:
    """``pictures("name", 4)``: a folder of four different 64 x 64 pictures with captions."""

    def make(name: str = "images", count: int = 4, size: tuple[int, int] = (64, 64), captions: bool = True) -> Path:
        folder = tmp_path / name
        folder.mkdir(parents=True)
        rng = np.random.default_rng(count)
        for number in range(count):
            values = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
            Image.fromarray(values).resize(size, Image.Resampling.NEAREST).save(folder / f"{number:02d}.png")
            if captions:
                text = f"1girl, red hair, smile, blue eyes, tag{number}\n"
                (folder / f"{number:02d}.txt").write_text(text, encoding="utf-8")
        return folder

    return make


@pytest.fixture
def config(tiny: Path, tmp_path: Path) -> Callable[..., TrainConfig]:
    """A config on the tiny base, small and quick; ``images`` is required."""

    def make(images: Path, **settings: Any) -> TrainConfig:
        quick = {
            "epochs": 2,
            "batch_size": 2,
            "dim": 4,
            "alpha": 2,
            "learning_rate": 2e-3,
            "device": "cpu",
            "name": "t",
        }
        place = {
            "base": str(tiny),
            "images": images if isinstance(images, list) else str(images),
            "out": str(tmp_path / "out"),
        }
        return make_config({**quick, **place, **settings}, "test")

    return make
