"""The tiny base, loaded once for each module."""

from __future__ import annotations

from pathlib import Path

import pytest

from loratools.base.load import load_base
from loratools.base.model import Base


@pytest.fixture(scope="module")
def base(tiny: Path) -> Base:
    return load_base(str(tiny), device="cpu")
