from __future__ import annotations

from pathlib import Path

import pytest

from loratools.base.load import load_base
from loratools.base.model import Base
from tests.tiny import save_tiny_base


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny SD1-shaped Diffusers folder; read only."""
    return save_tiny_base(tmp_path_factory.mktemp("bases") / "tiny")


@pytest.fixture(scope="session")
def base(folder: Path) -> Base:
    return load_base(folder, device="cpu")
