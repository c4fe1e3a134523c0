"""What ``loratools.train`` hands on, and that handing it on costs nothing."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from loratools.train.config.config import TrainConfig
from loratools.train.trainer import train

package = importlib.import_module("loratools.train")  # `loratools.train` itself is the library's function


def test_the_package_hands_on_what_a_program_needs() -> None:
    assert package.TrainConfig is TrainConfig and package.train is train
    assert all(getattr(package, name).__name__ == name for name in package.__all__)
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        package.trian  # noqa: B018


def test_the_package_itself_is_light() -> None:
    code = "import sys, loratools.train; assert not {'torch', 'numpy', 'pydantic'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
