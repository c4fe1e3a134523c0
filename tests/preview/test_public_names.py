"""What ``loratools.preview`` hands on, and that handing it on costs nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

import loratools.preview
from loratools.preview.record.grid import Grid
from loratools.preview.run import render_grid


def test_the_package_hands_on_what_a_program_needs() -> None:
    assert loratools.preview.Grid is Grid and loratools.preview.render_grid is render_grid
    assert all(getattr(loratools.preview, name).__name__ == name for name in loratools.preview.__all__)
    with pytest.raises(AttributeError, match="no attribute 'gird'"):
        loratools.preview.gird  # noqa: B018


def test_the_package_itself_is_light() -> None:
    code = "import sys, loratools.preview; assert not {'torch', 'numpy', 'pydantic'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
