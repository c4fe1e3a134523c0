"""Runs of every network option at once, killed and resumed, and as CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from loratools.adapter.files.file import open_adapter
from loratools.base.load import load_base
from loratools.train.config.config import TrainConfig
from loratools.train.network.network import Network
from loratools.train.output.state import load_state
from loratools.train.trainer import train

Config = Callable[..., TrainConfig]
Pictures = Callable[..., Path]


def test_a_run_of_every_option_resumes_to_the_same_bytes(
    config: Config, pictures: Pictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    images = pictures(count=2)
    common = {
        "epochs": 2,
        "conv_dim": 2,
        "conv_alpha": 1,
        "dora": True,
        "rslora": True,
        "rank_dropout": 0.2,
        "network_dropout": 0.1,
        "loraplus_lr_ratio": 4,
        "scale_weight_norms": 5,
        "block_dims": {"IN": 3},
        "stop_text_encoder_training": 0.5,
        "block_lr": {"OUT": 0.5},
    }
    whole = train(config(images, out=str(tmp_path / "a"), **common), progress=False)
    settings = config(images, out=str(tmp_path / "b"), **common)

    class Killed(Exception):
        pass

    def kill(_: object) -> None:
        raise Killed

    with pytest.raises(Killed):
        train(settings, progress=False, on_epoch=kill)
    resumed = train(settings.model_copy(update={"resume": True}), progress=False)
    assert [path.read_bytes() for path in resumed.epochs] == [path.read_bytes() for path in whole.epochs]
    facts = open_adapter(whole.epochs[0]).metadata
    assert facts["ss_network_dropout"] == "0.1" and facts["ss_scale_weight_norms"] == "5.0"
    assert '"conv_dim": "2"' in facts["ss_network_args"] and '"dora": "True"' in facts["ss_network_args"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(
    "options",
    [
        {"rank_dropout": 0.3, "network_dropout": 0.1, "module_dropout": 0.2, "conv_dim": 2},
        {"dora": True, "conv_dim": 2, "scale_weight_norms": 0.05, "loraplus_lr_ratio": 4},
        {"stop_text_encoder_training": 0.5, "max_token_length": 150, "weighted_captions": True},
    ],
)
def test_graphs_hold_every_option(options: Any, config: Config, pictures: Pictures) -> None:
    images, files = pictures(count=4), []
    for mode in ("off", "on"):
        settings = config(
            images,
            name=mode,
            epochs=1,
            repeats=8,
            graph=mode,
            device="cuda",
            dtype="fp32",
            mixed_precision="no",
            learning_rate=1e-3,
            **options,
        )
        train(settings, progress=False)
        state = load_state(settings.out / f"{mode}-state" / "state.pt")
        assert state is not None
        files.append(state.network)
    eager, graph = files
    apart = sum(float((eager[name] - graph[name]).norm()) ** 2 for name in eager)
    start = Network(
        load_base(settings.base, device="cpu"), settings.dim, settings.alpha, settings.seed, options=settings
    )
    moved = sum(float((eager[name] - value).norm()) ** 2 for name, value in start.state().items())
    assert moved > 0 and apart <= (1e-2) ** 2 * moved
