"""A plan needs no GPU and no package of the run's: what this machine lacks is a warning, and an error of the run."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loratools.errors import LoratoolsError, TrainingError, UnavailableError
from loratools.train.config.config import TrainConfig
from loratools.train.setup import plan_machine
from loratools.train.trainer import dry_run, train

Config = Callable[..., TrainConfig]
Pictures = Callable[..., Path]


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a GPU and without the packages of optimisers and of TensorBoard."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    for package in ("bitsandbytes", "prodigyopt", "lion_pytorch", "schedulefree", "torch.utils.tensorboard"):
        monkeypatch.setitem(sys.modules, package, None)


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize(
    ("settings", "warning"),
    [
        ({"optimizer": "AdamW8bit"}, "pip install bitsandbytes, or"),
        ({"optimizer": "Prodigy", "learning_rate": 1}, "pip install prodigyopt, or"),
        ({"optimizer": "AdamWScheduleFree", "lr_scheduler": "constant"}, "pip install schedulefree, or"),
        ({"optimizer": "not_here.Optimizer"}, "'not_here.Optimizer' cannot be imported"),
        ({"mixed_precision": "fp16", "device": "cpu"}, "mixed precision fp16 needs a GPU"),
        ({"device": "cuda"}, "this machine has no device 'cuda'"),
        ({"device": "cuda:1", "mixed_precision": "bf16"}, "this machine has no device 'cuda:1'"),
        ({"tensorboard": True}, "tensorboard needs a package"),
    ],
)
def test_what_this_machine_lacks_is_a_warning_of_the_plan_and_an_error_of_the_run(
    config: Config, pictures: Pictures, settings: dict[str, Any], warning: str
) -> None:
    asked = config(pictures(), **settings)
    plan = dry_run(asked)
    (lack,) = [line for line in plan.warnings if line.startswith("it cannot be trained here: ")]
    assert warning in lack and plan.modules > 0 and f"warning: {lack}" in plan.text()
    with pytest.raises(UnavailableError, match=r"cannot be imported|needs a|no device"):
        train(asked, progress=False)
    assert not list(asked.out.glob("*.safetensors"))


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimizer": "Prodigy", "learning_rate": 1e-4}, "set learning_rate: 1"),
        ({"optimizer": "Prodigy", "learning_rate": 1, "te_lr": 0.5}, "unet_lr and te_lr are 1 and 0.5"),
        ({"optimizer": "SGDScheduleFree"}, "SGDScheduleFree takes the place of a schedule"),
        ({"optimizer": "AdamW8bits"}, "did you mean 'AdamW8bit'"),
        ({"optimizer_args": {"bets": 1}}, "takes no argument 'bets'"),
        ({"device": "cudda"}, "'cudda' is not a device"),
    ],
)
def test_a_mistake_in_the_settings_ends_the_plan_all_the_same(
    config: Config, pictures: Pictures, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(LoratoolsError, match=message):
        dry_run(config(pictures(), **settings))


@pytest.mark.usefixtures("bare")
def test_several_lacks_are_told_once_each(config: Config, pictures: Pictures) -> None:
    machine = plan_machine(config(pictures(), optimizer="AdamW8bit", mixed_precision="fp16", device="cuda"))
    assert (len(machine.packages), len(machine.devices)) == (1, 1)
    assert machine.precision.device.type == "cpu" and machine.precision.compute.itemsize == 2


def test_the_plan_says_which_kind_of_network_it_is(config: Config, pictures: Pictures) -> None:
    images = pictures()
    assert "learning: dim 4," in dry_run(config(images)).text()
    assert "learning: LoKr of dim 4," in dry_run(config(images, network_type="lokr")).text()
    whole = dry_run(config(images, network_type="lokr", dim=100_000)).text()
    assert "learning: LoKr of whole matrices (dim 100000), rate" in whole


def test_a_plan_is_the_runs_own(config: Config, pictures: Pictures) -> None:
    asked = config(pictures())
    assert train(asked, progress=False).dry_run == dry_run(asked)
    with pytest.raises(TrainingError, match="refuses its settings"):
        dry_run(config(pictures("more"), optimizer_args={"betas": 3}))
