"""What ``loratools.train`` hands on, and that handing it on costs nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

import loratools.train
from loratools.train.config.config import TrainConfig
from loratools.train.trainer import train


def test_the_package_hands_on_what_a_program_needs() -> None:
    assert loratools.train.TrainConfig is TrainConfig and loratools.train.train is train
    assert all(getattr(loratools.train, name).__name__ == name for name in loratools.train.__all__)
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        loratools.train.trian  # noqa: B018


def test_the_package_itself_is_light() -> None:
    code = "import sys, loratools.train; assert not {'torch', 'numpy', 'pydantic'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
