"""Learning rates by block, LoRA+, rank stabilisation, limited norms, and when the text encoder stops."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from loratools.adapter.files.file import read
from loratools.base.model import Base
from loratools.train.config.config import TrainConfig
from loratools.train.network.network import Network
from loratools.train.optim.param_groups import parameter_groups
from loratools.train.output.state import load_state
from loratools.train.trainer import train
from tests.train.network.networks import QUERY, TEXT, make_network, move_factors, save_network

Config = Callable[..., TrainConfig]
Pictures = Callable[..., Path]


def test_rates_by_block_and_loraplus(base: Base, config: Config, tmp_path: Path) -> None:
    settings = config(
        tmp_path,
        unet_lr=1e-4,
        te_lr=1e-5,
        block_lr={"IN01": 0.5, "MID": 0},
        loraplus_lr_ratio=16,
        loraplus_text_encoder_lr_ratio=4,
    )
    network = Network(base, 4, 2, 0, options=settings)
    groups = parameter_groups(network, settings)
    rates = {id(factor): group["lr"] for group in groups for factor in group["params"]}
    inner, other, text = (network.layers[name] for name in (QUERY, "unet.up_blocks.1.attentions.0.proj_in", TEXT))
    used = [rates[id(factor)] for layer in (inner, other, text) for factor in (layer.down, layer.up)]
    assert used == pytest.approx([5e-5, 8e-4, 1e-4, 1.6e-3, 1e-5, 4e-5])
    assert not any(name.startswith("unet.mid_block") for name in network.layers)
    names = [group["name"] for group in groups]
    assert len(set(names)) == len(names) and {"unet", "text_encoder"} < set(names)
    assert len(rates) == sum(len(layer.factors()) for layer in network.layers.values())
    assert [group["name"] for group in parameter_groups(make_network(base), config(tmp_path))] == [
        "text_encoder",
        "unet",
    ]


def test_rank_stabilised_scale_is_folded_into_the_file(base: Base, tmp_path: Path) -> None:
    network = move_factors(make_network(base, 16, 2, rslora=True))
    adapter = read(save_network(network, tmp_path / "rs.safetensors"))
    layer = network.layers[QUERY]
    assert layer.scale == 2 / math.sqrt(16) and adapter.alphas[QUERY] == 2
    torch.testing.assert_close(adapter[QUERY].dense().float(), (0.5 * layer.up @ layer.down).detach())


def test_norms_are_limited_and_smaller_ones_left_alone(base: Base) -> None:
    network = move_factors(make_network(base))
    before = network.deltas()
    norms = {name: delta.norm() for name, delta in before.items()}
    most = sorted(norms.values())[len(norms) // 2]
    network.limit_norms(most)
    for name, delta in network.deltas().items():
        share = min(1.0, most / norms[name])
        torch.testing.assert_close(delta.dense(), share * before[name].dense(), rtol=1e-4, atol=1e-7)
        if norms[name] < most:
            assert torch.equal(delta.up, before[name].up)


def test_a_run_keeps_its_norms_small(config: Config, pictures: Pictures) -> None:
    settings = config(pictures(count=2), epochs=1, repeats=3, learning_rate=1e-2, scale_weight_norms=0.01, dtype="fp32")
    norms = [delta.norm() for delta in read(train(settings, progress=False).epochs[0]).values()]
    assert max(norms) <= 0.01 * (1 + 1e-5) and sum(norm > 0.0099 for norm in norms) > 5


class Pushing(torch.optim.SGD):
    """Moves whatever has a gradient, at any rate, as averaging optimisers do."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for factor in (factor for group in self.param_groups for factor in group["params"]):
            if factor.grad is not None:
                factor.add_(1e-3)


@pytest.mark.parametrize(
    ("stop", "accumulation", "optimizer"),
    [
        (0.5, 1, "AdamW"),
        (2, 2, "AdamW"),
        (2, 2, f"{__name__}.Pushing"),
    ],
)
def test_the_text_encoder_stops(
    stop: float, accumulation: int, optimizer: str, config: Config, pictures: Pictures
) -> None:
    """After half of the run its factors are what they were, and the UNet's go on."""
    images = pictures(count=4)
    common = {"batch_size": 2 // accumulation, "gradient_accumulation": accumulation, "lr_scheduler": "constant"}
    settings = config(images, epochs=2, name="s", stop_text_encoder_training=stop, optimizer=optimizer, **common)
    saved: list[dict[str, torch.Tensor]] = []

    def keep(_: object) -> None:
        state = load_state(settings.out / "s-state" / "state.pt")
        assert state is not None
        saved.append(state.network)

    result = train(settings, progress=False, on_epoch=keep)
    assert result.steps == 4
    first, second = saved
    assert all(torch.equal(first[name], second[name]) for name in first if name.startswith("text"))
    assert sum(not torch.equal(first[name], second[name]) for name in first if name.startswith("unet")) > 300
    assert any(first[name].any() for name in first if name.startswith("text") and name.endswith("up"))
