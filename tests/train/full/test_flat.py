"""A full training by the 8-bit step of whole groups, beside bitsandbytes' own step of one tensor after another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from loratools.train.config.read import make_config
from loratools.train.output.state import State, load_state
from loratools.train.trainer import RunResult, train

Pictures = Callable[..., Path]


class Killed(Exception):
    """What ends a run after its first step."""


def kill(record: Any) -> None:
    if record.step == 1:
        raise Killed


def moments(result: RunResult) -> dict[int, dict[str, Any]]:
    """The states of the optimiser by parameter, without bitsandbytes' wrapping."""
    state = load_state(result.state)
    assert isinstance(state, State)
    return {
        number: {**{k: v for k, v in own.items() if not isinstance(v, dict)}, **own["__bnb_optimizer_quant_state__"]}
        for number, own in state.optimizer["state"].items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("mixed_precision", ["no", "bf16"])
def test_8_bits_at_once_are_those_of_each_tensor_and_go_on_to_the_same_bytes(
    mixed_precision: str, tiny: Path, pictures: Pictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three runs: at once, cut short and gone on with, and by tensor.

    Without masters the last one may round otherwise: products on a CPU depend on where in memory a weight begins.
    """
    pytest.importorskip("bitsandbytes")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    images = pictures(count=4)

    def run(name: str, *, on_step: Callable[[Any], None] | None = None, resume: bool = False) -> RunResult:
        given = {"base": str(tiny), "images": str(images), "out": str(tmp_path / name), "name": "t", "device": "cpu"}
        given |= {"network_type": "full", "unet_lr": 1e-3, "te_lr": 1e-3, "save": "delta", "optimizer": "AdamW8bit"}
        given |= {"batch_size": 2, "epochs": 3, "stop_text_encoder_training": 4, "block_lr": {"mid": 0.5}}
        config = make_config({**given, "mixed_precision": mixed_precision, "resume": resume}, "test")
        return train(config, progress=False, on_step=on_step)

    whole = run("whole")
    with pytest.raises(Killed):
        run("cut", on_step=kill)
    others = {"cut": run("cut", resume=True)}
    if mixed_precision != "no":
        monkeypatch.setattr("loratools.train.step.update.steps_flat", lambda _: False)
        others["single"] = run("single")
    flat = moments(whole)
    assert {own["state1"].dtype for own in flat.values()} == {torch.uint8, torch.float32}
    assert {own["step"] for own in flat.values()} == {4, 6}  # the text encoder was stopped
    for name, other in others.items():
        assert other.losses == whole.losses
        assert all(path.read_bytes() == (tmp_path / name / path.name).read_bytes() for path in whole.epochs), name
        for number, own in moments(other).items():
            assert own.keys() == flat[number].keys()
            same = (torch.equal(torch.as_tensor(own[key]), torch.as_tensor(flat[number][key])) for key in own)
            assert all(same), (name, number)
