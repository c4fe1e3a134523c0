"""States that cannot be read, that are of an earlier version, and runs that become longer."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from loratools.adapter.files.file import read
from loratools.errors import TrainingError
from loratools.train.config.config import TrainConfig
from loratools.train.output.run_folder import RunFolder
from loratools.train.output.state import State, check_resumable
from loratools.train.trainer import train

Config = Callable[..., TrainConfig]
Pictures = Callable[..., Path]


def test_a_state_that_is_no_state_is_named(config: Config, pictures: Pictures) -> None:
    settings = config(pictures(count=1), epochs=1)
    path = RunFolder(settings.out, "t").state
    path.parent.mkdir(parents=True)
    path.write_bytes(b"half")
    with pytest.raises(TrainingError, match=r"state.pt cannot be read .*; start anew without `resume=True`"):
        train(settings.model_copy(update={"resume": True}), progress=False)
    torch.save({"version": 1}, path)
    with pytest.raises(TrainingError, match=r"state.pt (is of another version|cannot be read)"):
        train(settings.model_copy(update={"resume": True}), progress=False)


def test_a_state_of_an_earlier_version_can_be_resumed(config: Config, pictures: Pictures, tmp_path: Path) -> None:
    """Its callbacks had other names; the one that saves something keeps its own."""
    images = pictures(count=2)
    whole = train(config(images, epochs=2, batch_size=1, lr_scheduler="constant"), progress=False)
    settings = config(images, epochs=1, batch_size=1, lr_scheduler="constant", out=str(tmp_path / "old"))
    train(settings, progress=False)
    path = RunFolder(settings.out, "t").state
    content = torch.load(path, weights_only=True)
    assert set(content["watched"]) == {"log", "tensorboard", "tally"}
    content["watched"] = {"teller": {}, "curves": {}, "tally": content["watched"]["tally"]}
    torch.save(content, path)
    longer = train(settings.model_copy(update={"epochs": 2, "resume": True}), progress=False)
    assert read(longer.epochs[-1]).digest == read(whole.epochs[-1]).digest


@pytest.mark.parametrize(
    ("settings", "allowed"),
    [
        ({"lr_scheduler": "cosine"}, False),
        ({"lr_scheduler": "constant"}, True),
        ({"lr_scheduler": "constant", "lr_warmup": 0.1}, True),  # which has none
        ({"lr_scheduler": "constant_with_warmup", "lr_warmup": 10}, True),
        ({"lr_scheduler": "constant_with_warmup", "lr_warmup": 0.1}, False),
        ({"lr_scheduler": "constant", "stop_text_encoder_training": 0.5}, False),
        ({"lr_scheduler": "constant", "images": [{"folder": "a", "token_warmup": 0.2}]}, False),
    ],
)
def test_more_epochs_only_where_no_step_depends_on_how_many(settings: dict[str, object], allowed: bool) -> None:
    common = {
        "network": {},
        "ema": None,
        "optimizer": {},
        "scaler": {},
        "watched": {},
        "base_digest": "b",
        "dataset_digest": "d",
        "started_at": 0.0,
        "session": 1,
    }
    state = State(settings={**settings, "epochs": 2}, **common)
    expected = contextlib.nullcontext() if allowed else pytest.raises(TrainingError, match=r"epochs \(2 -> 4\) changed")
    with expected:
        check_resumable(state, {**settings, "epochs": 4}, "b", "d")
