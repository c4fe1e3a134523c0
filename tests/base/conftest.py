from __future__ import annotations

from pathlib import Path

import pytest
import torch

from loratools.base.load import load_base
from loratools.base.model import Base
from tests.tiny import save_tiny_base


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Tiny tensors are slower on several threads, and much slower where cores are shared."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny SD1-shaped Diffusers folder; read only."""
    return save_tiny_base(tmp_path_factory.mktemp("bases") / "tiny")


@pytest.fixture(scope="session")
def base(folder: Path) -> Base:
    return load_base(folder, device="cpu")
