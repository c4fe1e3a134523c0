"""The average of the factors over the steps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from loratools.train.config.config import TrainConfig
from loratools.train.network.ema import Ema

Config = Callable[..., TrainConfig]
Pictures = Callable[..., Path]


def test_an_average_is_put_back_bit_for_bit() -> None:
    factor = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    ema = Ema([factor], 0.25)
    with torch.no_grad():
        factor += 1
    ema.update(100)
    kept, mean = factor.detach().clone(), torch.tensor([1.75, 2.75])
    with ema.applied():
        torch.testing.assert_close(factor.detach(), mean)
    assert torch.equal(factor, kept)
    other = Ema([factor], 0.25)
    other.load(ema.state())
    with other.applied():
        torch.testing.assert_close(factor.detach(), mean)
