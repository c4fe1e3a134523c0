"""What the library's tests work on: two LoRAs in the current folder, and a tiny base."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.recipe.conftest import save_lora
from tests.tiny import save_tiny_base


@pytest.fixture
def loras(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with two LoRAs, ``a`` and ``b``."""
    monkeypatch.chdir(tmp_path)
    save_lora(tmp_path / "a.safetensors", 1)
    save_lora(tmp_path / "b.safetensors", 2, rank=3)
    return tmp_path


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random base."""
    return save_tiny_base(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture
def images(loras: Path) -> Path:
    """Two small pictures with captions."""
    folder = loras / "images"
    folder.mkdir()
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 255, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text("girl, red hair", encoding="utf-8")
    return folder
