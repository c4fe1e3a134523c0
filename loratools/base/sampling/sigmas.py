"""Sigmas (noise levels) by the WebUI's schedule types, and how a scheduler of diffusers is given them.

A run of n steps begins at the very last training timestep, where diffusers' "leading" spacing begins near it. A time
between two training timesteps has a sigma between theirs on a logarithmic scale, and the UNet is called with such
fractional times.

=================  ==================================================================================================
Uniform, Normal    even timesteps from the last to the first; the type of a sampler's plain name
SGM Uniform        even timesteps, of which the first is never reached
Simple, DDIM       every k-th training sigma, from the last down; from the second up
Karras             Karras et al. 2022, eq. 5, rho 7
Exponential        even logarithms; Polyexponential is the same at the WebUI's rho of 1
KL Optimal         Sabour et al. 2024, eq. 66: even arctangents; ends at the lowest level, not at 0
Align Your Steps   Sabour et al. 2024: ten steps' levels by model family, interpolated
Beta               Lee et al. 2024: quantiles of the Beta(0.6, 0.6) distribution
=================  ==================================================================================================
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from loratools.base.quiet import quiet

_RHO = 7.0
_BETA = 0.6
_ALIGNED = {
    False: (14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029),  # Stable Diffusion 1.5
    True: (14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029),  # SDXL
}


def training_sigmas(config: Mapping[str, Any]) -> Tensor:
    """A base's sigmas (t,), rising with time, float64, of its scheduler's ``config``."""
    with quiet():
        from diffusers import EulerDiscreteScheduler

        alphas: Tensor = EulerDiscreteScheduler.from_config(dict(config)).alphas_cumprod.double()
    return ((1 - alphas) / alphas) ** 0.5


def zero_snr_betas(config: Mapping[str, Any]) -> list[float]:
    """The betas (t,) of a base whose noise ends at zero SNR, for schedulers of diffusers that cannot rescale them
    themselves; the last level is as near to pure noise as that of those which can."""
    with quiet():
        from diffusers import EulerDiscreteScheduler

        alphas = EulerDiscreteScheduler.from_config(dict(config)).alphas_cumprod.double()
    before = torch.cat([alphas.new_ones(1), alphas[:-1]])
    betas: list[float] = (1 - alphas / before).tolist()
    return betas


def schedule_sigmas(training: Tensor, steps: int, schedule: str = "", *, xl: bool = False) -> Tensor:
    """The sigmas (steps + 1,) from the highest to the last, float64; DDIM has more where ``steps`` does not divide.

    Args:
        training: a base's sigmas (t,), rising with time.
        schedule: one of :data:`loratools.base.sampling.samplers.SCHEDULES`, or empty for even timesteps.
        xl: whether the base is SDXL, for which Align Your Steps has other sigmas.
    """
    training = training.double()
    low, high, last = training[0], training[-1], len(training) - 1
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    match schedule:
        case "KL Optimal":
            ends = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
            return (ends * low.arctan() + (1 - ends) * high.arctan()).tan()
        case "Karras":
            sigmas = karras(high, low, ramp)
        case "Exponential" | "Polyexponential":
            sigmas = (high.log() + ramp * (low.log() - high.log())).exp()
        case "SGM Uniform":
            sigmas = sigmas_at(training, last * (1 - torch.arange(steps) / steps))
        case "Simple":
            sigmas = training[[last - int(n * len(training) / steps) for n in range(steps)]]
        case "DDIM":
            sigmas = training[1 :: max(len(training) // steps, 1)].flip(0)
        case "Align Your Steps":
            table = torch.tensor(_ALIGNED[xl], dtype=torch.float64)
            sigmas = sigmas_at(table, ramp * (len(table) - 1))
        case "Beta":
            sigmas = low + (high - low) * torch.tensor([beta_quantile(1 - float(at)) for at in ramp]).double()
        case _:
            sigmas = sigmas_at(training, last * (1 - ramp))
    return torch.cat([sigmas, sigmas.new_zeros(1)])


def karras(high: Tensor, low: Tensor, ramp: Tensor) -> Tensor:
    """Karras et al. 2022, eq. 5: sigmas between ``high`` and ``low`` whose seventh roots are even."""
    return (high ** (1 / _RHO) + ramp * (low ** (1 / _RHO) - high ** (1 / _RHO))) ** _RHO


def sigmas_at(training: Tensor, timesteps: Tensor) -> Tensor:
    """The sigmas at fractional ``timesteps``, log-linear between neighbours."""
    left = timesteps.floor().long().clamp(max=len(training) - 2)
    logs = training.double().log()
    return (logs[left] + (timesteps - left) * (logs[left + 1] - logs[left])).exp()


def timesteps_of(training: Tensor, sigmas: Tensor) -> Tensor:
    """The fractional timesteps, between 0 and t - 1, at which training's noise has these sigmas, float64."""
    known, logs = training.double().log(), sigmas.double().log()
    right = torch.searchsorted(known, logs).clamp(1, len(known) - 1)
    left = right - 1
    return (left + (logs - known[left]) / (known[right] - known[left])).clamp(0, len(known) - 1)


def beta_quantile(share: float) -> float:
    """Where Beta(0.6, 0.6) has ``share`` of its mass below: bisection on the power series of its integral,
    ``x^a sum_k (1 - b)_k x^k / (k! (a + k))``, which below 1/2 gains a bit with every term."""
    if share > 0.5:
        return 1 - beta_quantile(1 - share)
    factors = [1.0]
    for k in range(60):
        factors.append(factors[-1] * (k + 1 - _BETA) / (k + 1))

    def mass(x: float) -> float:
        return math.pow(x, _BETA) * math.fsum(factor * x**k / (_BETA + k) for k, factor in enumerate(factors))

    below, above, target = 0.0, 0.5, share * 2 * mass(0.5)
    for _ in range(60):
        middle = (below + above) / 2
        below, above = (middle, above) if mass(middle) < target else (below, middle)
    return below


def set_sigmas(scheduler: Any, training: Tensor, sigmas: Tensor, timesteps: Tensor | None = None) -> None:
    """Give a scheduler of diffusers other sigmas than those of its ``set_timesteps``.

    Args:
        scheduler: one that keeps ``sigmas``, already set to ``len(sigmas) - 1`` steps.
        timesteps: (n,) of ``sigmas`` (n + 1,); by default those of :func:`timesteps_of`.
    """
    times = timesteps_of(training, sigmas[:-1]) if timesteps is None else timesteps
    if hasattr(scheduler, "state_in_first_order"):  # Heun calls the UNet at both ends of a step, unless it ends at 0
        ends = sigmas[1:] if sigmas[-1] > 0 else sigmas[1:-1]
        calls = 2 * len(times) - int(sigmas[-1] == 0)
        times = torch.cat([times[:1], timesteps_of(training, ends).repeat_interleave(2)])[:calls]
        sigmas = torch.cat([sigmas[:1], ends.repeat_interleave(2), sigmas[-1:]])
    scheduler.sigmas = sigmas.float()
    scheduler.timesteps = times.float()
    scheduler.set_begin_index(0)
    if hasattr(scheduler, "lambda_t"):  # such a scheduler keeps pictures scaled to unit variance
        scheduler.init_noise_sigma = float(sigmas[0] / (sigmas[0] ** 2 + 1) ** 0.5)


def unipc_sigmas(training: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """The WebUI's own sigmas (n + 1,) and timesteps (n,) for UniPC: even timesteps down to the first one, and between
    two of training's log-linear in alpha (Lu et al. 2022, DPM-Solver, app. D.4)."""
    count = len(uniform_timesteps(len(training), steps))
    timesteps = (len(training) - 1) * (1 - torch.arange(count + 1, dtype=torch.float64) / count)
    alphas = sigmas_at((training.double() ** 2 + 1) ** -0.5, timesteps)
    return (1 - alphas**2).sqrt() / alphas, timesteps[:-1]


def uniform_timesteps(training: int, steps: int) -> list[int]:
    """The WebUI's timesteps for DDIM and its kin, falling; one more than ``steps`` where those do not divide
    ``training``, the number of training timesteps."""
    return [min(time + 1, training - 1) for time in range(0, training, training // steps)][::-1]
