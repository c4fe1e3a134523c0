"""The WebUI's noise levels, for pictures of its seeds: k-diffusion's, where diffusers' schedulers choose others.

A run of n steps begins at the very last training level, not near it, as "leading" spacing does; its levels are n values
of the training levels at evenly spaced times (log-linear between them), or Karras et al.'s (2022, eq. 5) from the
highest to the lowest of them, or evenly spaced logarithms; and the UNet is told times between whole ones.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_RHO = 7.0


def levels(training: Tensor, steps: int, schedule: str = "") -> Tensor:
    """The sigmas (steps + 1,) from the highest to 0, float64.

    Args:
        training: a base's sigmas (t,), rising with time.
        schedule: ``Karras``, ``Exponential``, or empty for even times.
    """
    low, high = training[0].double(), training[-1].double()
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    match schedule:
        case "Karras":
            made = (high ** (1 / _RHO) + ramp * (low ** (1 / _RHO) - high ** (1 / _RHO))) ** _RHO
        case "Exponential":
            made = (high.log() + ramp * (low.log() - high.log())).exp()
        case _:
            made = _between(training.double().log(), (len(training) - 1) * (1 - ramp)).exp()
    return torch.cat([made, made.new_zeros(1)])


def times(training: Tensor, sigmas: Tensor) -> Tensor:
    """The times, between 0 and t - 1, at which training's noise has these levels, float64."""
    known, wanted = training.double().log(), sigmas.double().log()
    right = torch.searchsorted(known, wanted).clamp(1, len(known) - 1)
    left = right - 1
    return (left + (wanted - known[left]) / (known[right] - known[left])).clamp(0, len(known) - 1)


def set_levels(scheduler: Any, steps: int, schedule: str) -> None:
    """Give a multistep scheduler of diffusers, after its ``set_timesteps``, the WebUI's levels and times.

    Such a scheduler keeps pictures scaled to unit variance, and so the first noise is a little less than 1.
    """
    training = ((1 - scheduler.alphas_cumprod) / scheduler.alphas_cumprod) ** 0.5
    sigmas = levels(training, steps, schedule)
    scheduler.sigmas = sigmas.float()
    scheduler.timesteps = times(training, sigmas[:-1]).float()
    scheduler.init_noise_sigma = float(sigmas[0] / (sigmas[0] ** 2 + 1) ** 0.5)


def _between(values: Tensor, at: Tensor) -> Tensor:
    """``values`` at fractional places, linearly between neighbours."""
    left = at.floor().long().clamp(max=len(values) - 2)
    return values[left] + (at - left) * (values[left + 1] - values[left])
