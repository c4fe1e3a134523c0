"""Ctrl-C: the second one, and what is printed after the first."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from loratools.cli.training.train import command
from loratools.train import trainer
from loratools.train.config.config import TrainConfig
from loratools.train.interrupt import Interrupted, StopRequest

Config = Callable[..., TrainConfig]
Pictures = Callable[..., Path]


@pytest.fixture(params=[signal.default_int_handler, signal.SIG_IGN], ids=["handled", "ignored"])
def handler(request: pytest.FixtureRequest) -> Iterator[Any]:
    """What Ctrl-C did before: it is ignored by what a script has put into its background."""
    before = signal.signal(signal.SIGINT, request.param)
    yield request.param
    signal.signal(signal.SIGINT, before)


def test_a_second_ctrl_c_stops_at_once(handler: Any, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt) as caught, StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGINT)  # another thread may get it, and this one be told a moment later
        assert _within_seconds(stop.agreed)
        os.kill(os.getpid(), signal.SIGINT)
        _within_seconds(lambda: False)
        pytest.fail("the second one did nothing")
    assert not isinstance(caught.value, Interrupted)
    assert signal.getsignal(signal.SIGINT) == handler
    assert "finishing the step and saving the state; once more stops at once" in capfd.readouterr().err


def _within_seconds(done: Callable[[], bool]) -> bool:
    end = time.monotonic() + 10
    while not done() and time.monotonic() < end:
        time.sleep(0.01)
    return done()


def test_ctrl_c_prints_the_command_that_goes_on(
    pictures: Pictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise Interrupted(3, 10, signal.SIGINT)

    monkeypatch.setattr(trainer, "train", stopped)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my base.safetensors").touch()
    given = ["--base", "my base.safetensors", "--images", str(pictures(count=1))]
    result = CliRunner().invoke(command, given)
    assert result.exit_code == 130
    hint = f"to go on: loratools train --base 'my base.safetensors' --images {given[3]} --resume"
    assert f"stopped after step 3 of 10, and the state is saved; {hint}" in result.stderr
    assert CliRunner().invoke(command, [*given, "--resume"]).stderr.count("--resume") == 1
