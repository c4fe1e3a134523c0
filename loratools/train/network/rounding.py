"""Stochastic rounding to bfloat16: what keeps updates that are smaller than half of a weight's last place."""

from __future__ import annotations

import torch
from torch import Tensor

_LOW = 0xFFFF  # the bits of a float32 that a bfloat16 lacks


@torch.no_grad()
def round_stochastically(into: Tensor, value: Tensor, generator: torch.Generator | None = None) -> None:
    """Set ``into`` (bfloat16) to ``value`` (float32), rounded up or down at random, in proportion to the distance.

    A bfloat16 is the upper half of a float32: sixteen random bits are added to the lower half, which is then cut off.
    So the mean over many draws is the value itself, while rounding to the nearest loses every update below half of the
    last place (1/512 of a weight), and a learning rate of 1e-6 mostly makes no other (Gupta et al. 2015,
    1502.02551). Infinities and NaN stay as they are.

    Args:
        generator: of the random bits; PyTorch's own of the device if None.
    """
    bits = torch.randint(0, _LOW + 1, value.shape, dtype=torch.int32, device=value.device, generator=generator)
    bits.add_(value.contiguous().view(torch.int32)).bitwise_and_(~_LOW)
    rounded = bits.view(torch.float32)
    into.copy_(torch.where(value.isfinite(), rounded, value))
