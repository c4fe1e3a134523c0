"""What layers with DoRA and dropout compute, against the formulas written out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from loratools.adapter.files.file import read
from loratools.base.model import Base
from loratools.base.patching.patch import live_modules
from loratools.errors import NeedsBaseError
from loratools.train.config.config import TrainConfig
from loratools.train.network.dora import DoraConv, DoraLinear
from loratools.train.network.layers import LoraDropoutConv, LoraDropoutLinear, ModuleDropout, RankDropout
from loratools.train.network.network import LoraConv
from loratools.train.trainer import train
from tests.train.network.networks import CONV, QUERY, TEXT, make_network, move_factors, save_network

Config = Callable[..., TrainConfig]
Pictures = Callable[..., Path]


def test_a_plain_lora_has_plain_modules(base: Base) -> None:
    kinds = {type(layer).__name__ for layer in make_network(base).layers.values()}
    assert kinds == {"LoraLinear", "LoraConv"}
    assert type(make_network(base, conv_dim=2).layers[CONV]) is LoraConv


@pytest.mark.parametrize("kind", ["linear", "conv"])
@pytest.mark.parametrize("bias", [True, False])
def test_dora_is_the_papers_formula_and_gradient(kind: str, bias: bool) -> None:
    """y = m (W + s B A) / |W + s B A| x + b, with the norm held constant for the gradients (section 4.3)."""
    torch.manual_seed(0)
    frozen, x = (
        (torch.nn.Linear(6, 5, bias=bias), torch.randn(3, 7, 6))
        if kind == "linear"
        else (torch.nn.Conv2d(6, 5, 3, padding=1, bias=bias), torch.randn(3, 6, 4, 4))
    )
    frozen, x = frozen.double().requires_grad_(False), x.double()
    made = (DoraLinear if kind == "linear" else DoraConv)(frozen, 3, 1.5, torch.Generator().manual_seed(1)).double()
    run: Any = functional.linear if kind == "linear" else lambda x, w, b: functional.conv2d(x, w, b, padding=1)
    torch.testing.assert_close(made(x), frozen(x), rtol=1e-5, atol=1e-6)  # it starts at the base
    for factor in made.factors().values():
        torch.nn.init.normal_(factor)
    up, down, magnitude = (
        made.factors()[side].detach().clone().requires_grad_() for side in ("up", "down", "magnitude")
    )
    moved = frozen.weight.flatten(1) + 0.5 * up @ down
    weight = (magnitude / moved.detach().norm(dim=1))[:, None] * moved
    wanted = run(x, weight.reshape(frozen.weight.shape), frozen.bias)
    torch.testing.assert_close(made(x), wanted)
    made(x).square().sum().backward()
    wanted.square().sum().backward()
    for mine, theirs in ((made.up, up), (made.down, down), (made.magnitude, magnitude)):
        torch.testing.assert_close(mine.grad, theirs.grad)


def test_a_dora_file_is_read_back_as_what_was_trained(base: Base, tmp_path: Path) -> None:
    network = move_factors(make_network(base, dora=True, conv_dim=2))
    path = save_network(network, tmp_path / "dora.safetensors")
    with pytest.raises(NeedsBaseError):
        read(path)
    live = live_modules(base)
    weights = {f"{name}.weight": live[name].weight.detach() for name in network.layers}  # type: ignore[union-attr]
    adapter = read(path, weights)
    assert set(adapter.kinds.values()) == {"dora"} and len(adapter) == len(network.layers)
    for name in (QUERY, CONV, TEXT):
        layer, frozen = network.layers[name], weights[f"{name}.weight"].double()
        moved = frozen.flatten(1) + layer.scale * (layer.up.double() @ layer.down.double())
        wanted = layer.factors()["magnitude"].double()[:, None] * moved / moved.norm(dim=1, keepdim=True)
        weight = adapter[name].dense().double().flatten(1) + frozen.flatten(1)
        torch.testing.assert_close(weight, wanted, rtol=1e-6, atol=1e-6)


def test_dropped_activations_are_those_that_the_generator_draws(base: Base) -> None:
    """Rank drop-out by hand: ranks of each sample whose number is below p are gone, the rest counts 1 / (1 - p)."""
    network = move_factors(make_network(base, rank_dropout=0.4, conv_dim=2))
    linear, conv = network.layers[QUERY], network.layers[CONV]
    assert isinstance(linear, LoraDropoutLinear) and isinstance(conv, LoraDropoutConv)
    for layer, x, axes in (
        (linear, torch.randn(3, 5, linear.shape[1]), (1,)),
        (conv, torch.randn(3, conv.shape[1], 4, 4), (-1, -1)),
    ):
        torch.manual_seed(1)
        y = layer(x)
        torch.manual_seed(1)
        mask = (torch.rand(3, layer.rank) >= 0.4) / 0.6
        for row in range(3):
            weight = ((layer.up * mask[row] * layer.scale) @ layer.down).reshape(layer.shape)
            wanted: Any = layer.frozen(x[row : row + 1])
            part: Any = (
                functional.linear(x[row : row + 1], weight)
                if len(axes) == 1
                else functional.conv2d(x[row : row + 1], weight, None, layer.frozen.stride, 1)
            )
            torch.testing.assert_close(y[row : row + 1], wanted + part, rtol=1e-4, atol=1e-5)
    assert 0 < int((mask == 0).sum()) < mask.numel()


def test_drops_leave_out_their_share_and_nothing_at_rest(base: Base) -> None:
    torch.manual_seed(0)
    ones = torch.ones(4000, 2, 8)
    ranks, kept = RankDropout(0.25, -1)(ones), torch.stack([ModuleDropout(0.25)(torch.ones(1)) for _ in range(2000)])
    assert abs(float((ranks == 0).float().mean()) - 0.25) < 0.02 and ranks.unique().tolist() == [0, float(ranks.max())]
    assert torch.equal(ranks[:, 0], ranks[:, 1])  # a rank is dropped for all of a sample
    assert abs(float(kept.mean()) - 0.75) < 0.04
    network = move_factors(make_network(base, network_dropout=0.5, rank_dropout=0.5, module_dropout=0.5))
    layer, x = network.layers[QUERY], torch.randn(2, 5, 16)
    assert not torch.equal(layer(x), layer(x))
    with network.without_dropout():
        plain = functional.linear(x, layer.scale * layer.up @ layer.down) + layer.frozen(x)
        torch.testing.assert_close(layer(x), plain)
    assert layer.training


def test_checkpointing_draws_the_same_again(config: Config, pictures: Pictures) -> None:
    images, files = pictures(count=2), []
    for name, checkpointing in (("plain", False), ("again", True)):
        settings = config(
            images,
            name=name,
            epochs=1,
            dtype="fp32",
            rank_dropout=0.5,
            network_dropout=0.3,
            gradient_checkpointing=checkpointing,
        )
        files.append(read(train(settings, progress=False).epochs[0]))
    for name in files[0]:
        torch.testing.assert_close(files[0][name].dense(), files[1][name].dense(), rtol=1e-4, atol=1e-8)
