"""LoRA beside quantised layers: the weights stay, the output is that of the sum."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from loratools.adapter.algebra.lowrank import Dense, LowRank
from loratools.base.patching.patch import Patcher
from loratools.base.patching.quantized import is_quantized
from loratools.errors import BaseModelError, ShapeError


class EightBits(nn.Module):
    """A linear layer with a byte for each weight, in a flat row, as packed formats have it."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.scale = float(linear.weight.detach().abs().max()) / 127
        packed = (linear.weight.detach() / self.scale).round().to(torch.int8)
        self.weight = nn.Parameter(packed.reshape(-1, 1), requires_grad=False)
        self.bias = nn.Parameter(torch.zeros(linear.out_features))

    @property
    def dense(self) -> Tensor:
        return self.weight.float().view(self.out_features, self.in_features) * self.scale

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.dense, self.bias)


@pytest.fixture
def base() -> Any:
    torch.manual_seed(0)
    network = nn.ModuleDict({"a": EightBits(nn.Linear(6, 4)), "b": nn.Linear(6, 4), "conv": nn.Conv2d(6, 4, 1)})
    cpu = torch.device("cpu")
    return SimpleNamespace(name="tiny", device=cpu, home=cpu, components=lambda: {"transformer": network})


def delta(seed: int = 1) -> LowRank:
    g = torch.Generator().manual_seed(seed)
    return LowRank(torch.randn(4, 2, generator=g), torch.randn(2, 6, generator=g), (4, 6))


def test_the_difference_stands_beside_the_layer_and_goes_without_a_trace(base: Any) -> None:
    layer, x = base.components()["transformer"]["a"], torch.randn(3, 6)
    before, packed = layer(x), layer.weight.clone()
    patcher, low = Patcher(base), delta()
    full = Dense(torch.randn(4, 6))
    for one, matrix in ((low, low.up @ low.down), (full, full.value)):
        change = patcher.patch({"transformer.a": one}, 0.5)
        assert change.modules == 1
        torch.testing.assert_close(layer(x), x @ (layer.dense + 0.5 * matrix).T)
        assert torch.equal(layer.weight, packed)
    patcher.restore()
    assert torch.equal(layer(x), before) and not layer._forward_hooks


def test_plain_and_quantised_layers_follow_their_own_keys(base: Any) -> None:
    network, x = base.components()["transformer"], torch.randn(3, 6)
    plain = network["b"].weight.clone()
    patcher, deltas = Patcher(base), {"transformer.a": delta(), "transformer.b": delta(2)}
    keys = dict.fromkeys(deltas, "one")
    assert patcher.patch(deltas, 1.0, keys).modules == 2
    assert patcher.patch(dict(deltas), 1.0, keys).modules == 0
    assert patcher.patch(deltas, 0.5, keys).modules == 2
    assert patcher.patch({"transformer.b": deltas["transformer.b"]}, 0.5, keys).modules == 1  # a's goes
    torch.testing.assert_close(network["a"](x), x @ network["a"].dense.T)
    patcher.free()
    assert torch.equal(network["b"].weight, plain)


def test_a_bias_of_a_quantised_layer_is_a_plain_number(base: Any) -> None:
    layer = base.components()["transformer"]["a"]
    patcher = Patcher(base)
    patcher.patch({"transformer.a.bias": Dense(torch.ones(4))}, 2.0)
    assert torch.equal(layer.bias, torch.full((4,), 2.0))
    patcher.restore()
    assert torch.equal(layer.bias, torch.zeros(4))


def test_other_widths_and_other_layers_are_refused(base: Any) -> None:
    wide = LowRank(torch.zeros(5, 2), torch.zeros(2, 6), (5, 6))
    with pytest.raises(ShapeError, match=r"transformer.a is \(5, 6\) in the adapter and \(4, 6\) in tiny"):
        Patcher(base).check({"transformer.a": wide})
    conv = base.components()["transformer"]["conv"]
    conv.weight = nn.Parameter(torch.zeros(24, 1, dtype=torch.uint8), requires_grad=False)
    assert is_quantized(conv)
    with pytest.raises(BaseModelError, match="quantised and no linear layer"):
        Patcher(base).check({"transformer.conv": delta()})


def test_weights_that_are_nowhere_are_refused(base: Any) -> None:
    base.components()["transformer"]["b"].to("meta")
    with pytest.raises(BaseModelError, match="not in memory \\(sequential offload\\)"):
        Patcher(base).check({"transformer.b": delta()})
