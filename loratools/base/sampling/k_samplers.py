"""Samplers in k-diffusion's form, for those that diffusers lacks or has in another form than they are known in.

Here ``x`` is a clean picture plus noise of deviation sigma, and a model call gives ``denoised``, what the model takes
for the clean picture. Each sampler is a generator: it yields ``(x, sigma)`` for every model call, is sent ``denoised``,
and returns the finished ``x``; :mod:`loratools.base.sampling.k_scheduler` runs it in a scheduler's place. Its sigmas
(n + 1,) fall; ``noise_sampler(sigma, sigma_next)`` draws noise of unit deviation for the way between two of them.

The names are k-diffusion's (``sample_dpm_2`` is :func:`dpm_2`), the formulas those of the papers that the docstrings
name. diffusers' own of these names take other sigmas, or half the model calls (DPM++ SDE), or have the sign of the
third-order term wrong (DPM++ 3M SDE in 0.42).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import TypeAlias

import torch
from torch import Tensor

from loratools.base.sampling.sigmas import karras

Solver: TypeAlias = Generator[tuple[Tensor, float], Tensor, Tensor]
NoiseSampler: TypeAlias = Callable[[float, float], Tensor]
KSampler: TypeAlias = Callable[[Tensor, Sequence[float], NoiseSampler], Solver]


def ancestral_step(sigma: float, sigma_next: float) -> tuple[float, float]:
    """``(sigma_down, sigma_up)``: the level to step down to, and the deviation of the noise that leads back up to
    ``sigma_next`` (Ho et al. 2020, eq. 7, as sigmas; k-diffusion's ``get_ancestral_step``)."""
    sigma_up = min(sigma_next, sigma_next * math.sqrt(sigma**2 - sigma_next**2) / sigma)
    return math.sqrt(sigma_next**2 - sigma_up**2), sigma_up


def dpm_2(x: Tensor, sigmas: Sequence[float], noise_sampler: NoiseSampler, *, ancestral: bool = False) -> Solver:
    """DPM-Solver-2 (Lu et al. 2022) with the steps of Karras et al. 2022: the slope at the middle of the logarithms is
    used for the whole step. ``ancestral`` steps to a lower level each time and adds fresh noise."""
    for sigma, sigma_next in pairwise(sigmas):
        sigma_down, sigma_up = ancestral_step(sigma, sigma_next) if ancestral else (sigma_next, 0.0)
        denoised = yield x, sigma
        if sigma_down == 0:
            x = denoised
            continue
        sigma_mid = math.sqrt(sigma * sigma_down)
        x_2 = x + (x - denoised) / sigma * (sigma_mid - sigma)
        denoised_2 = yield x_2, sigma_mid
        x = x + (x_2 - denoised_2) / sigma_mid * (sigma_down - sigma)
        if ancestral:
            x = x + noise_sampler(sigma, sigma_next) * sigma_up
    return x


def dpmpp_2s_ancestral(x: Tensor, sigmas: Sequence[float], noise_sampler: NoiseSampler) -> Solver:
    """DPM-Solver++(2S) (Lu et al. 2022, algorithm 1 at r = 1/2) to a lower level, then fresh noise."""
    for sigma, sigma_next in pairwise(sigmas):
        sigma_down, sigma_up = ancestral_step(sigma, sigma_next)
        denoised = yield x, sigma
        if sigma_down > 0:
            sigma_mid = math.sqrt(sigma * sigma_down)
            denoised = yield _first_order(x, denoised, sigma_mid / sigma), sigma_mid
        x = _first_order(x, denoised, sigma_down / sigma)
        if sigma_next > 0:
            x = x + noise_sampler(sigma, sigma_next) * sigma_up
    return x


def dpmpp_sde(x: Tensor, sigmas: Sequence[float], noise_sampler: NoiseSampler) -> Solver:
    """DPM-Solver++(2S) on the reverse SDE at r = 1/2: both halves are ancestral steps along one Brownian path."""
    for sigma, sigma_next in pairwise(sigmas):
        denoised = yield x, sigma
        if sigma_next == 0:
            x = denoised
            continue
        sigma_mid = math.sqrt(sigma * sigma_next)
        sigma_down, sigma_up = ancestral_step(sigma, sigma_mid)
        x_2 = _first_order(x, denoised, sigma_down / sigma) + noise_sampler(sigma, sigma_mid) * sigma_up
        denoised_2 = yield x_2, sigma_mid
        sigma_down, sigma_up = ancestral_step(sigma, sigma_next)
        x = _first_order(x, denoised_2, sigma_down / sigma) + noise_sampler(sigma, sigma_next) * sigma_up
    return x


def dpmpp_multistep_sde(
    x: Tensor, sigmas: Sequence[float], noise_sampler: NoiseSampler, *, order: int, heun: bool
) -> Solver:
    """SDE-DPM-Solver++(2M) (Lu et al. 2022, eq. 17) and its third order: ``denoised`` is extrapolated from up to three
    calls. ``heun`` integrates the slope exactly, where the midpoint rule takes half the step."""
    earlier: list[tuple[Tensor, float]] = []  # (denoised, the log step that followed it), newest first
    for sigma, sigma_next in pairwise(sigmas):
        denoised = yield x, sigma
        if sigma_next == 0:
            x = denoised
            continue
        h = math.log(sigma / sigma_next)
        decay = -math.expm1(-2 * h)
        factor = 1 - decay / (2 * h) if heun else decay / 2
        x_next = x * (sigma_next / sigma * math.exp(-h)) + denoised * decay
        if earlier:
            r_0 = earlier[0][1] / h
            d_1 = (denoised - earlier[0][0]) / r_0
            if len(earlier) > 1:
                r_1 = earlier[1][1] / h
                d_2 = (d_1 - (earlier[0][0] - earlier[1][0]) / r_1) / (r_0 + r_1)
                x_next = x_next + d_2 * (0.5 - factor / (2 * h))
                d_1 = d_1 + d_2 * r_0
            x_next = x_next + d_1 * factor
        x = x_next + noise_sampler(sigma, sigma_next) * (sigma_next * math.sqrt(decay))
        earlier = [(denoised, h), *earlier][: order - 1]
    return x


def dpm_fast(x: Tensor, sigmas: Sequence[float], noise_sampler: NoiseSampler) -> Solver:
    """DPM-Solver-fast (Lu et al. 2022): n model calls in steps of order 3 and a remainder, even in log sigma; each step
    goes lower than its end and adds fresh noise, as in the WebUI."""
    calls, sigma_max, sigma_min = len(sigmas) - 1, sigmas[0], sigmas[-2]
    if calls == 1:
        return (yield x, sigma_max)
    orders = [3] * (calls // 3 - 1) + [2, 1] if calls % 3 == 0 else [3] * (calls // 3) + [calls % 3]
    ends = [sigma_max * (sigma_min / sigma_max) ** (n / len(orders)) for n in range(len(orders) + 1)]
    for order, (sigma, sigma_next) in zip(orders, pairwise(ends), strict=True):
        sigma_down = max(sigma_min, ancestral_step(sigma, sigma_next)[0])
        x = yield from _dpm_step(x, sigma, sigma_down, order)
        x = x + noise_sampler(sigma, sigma_next) * math.sqrt(max(sigma_next**2 - sigma_down**2, 0.0))
    return x


def _dpm_step(x: Tensor, sigma: float, sigma_next: float, order: int) -> Solver:
    """One step of DPM-Solver-1, -2 (algorithm 1, r = 1/2) or -3 (algorithm 2, r = 1/3 and 2/3).

    The model is called after equal parts of the step in log sigma; its ``eps = (x - denoised) / sigma`` there corrects
    the whole step.
    """
    h = math.log(sigma / sigma_next)
    eps = (x - (yield x, sigma)) / sigma

    def advanced(part: float, correction: Tensor | float = 0.0) -> tuple[Tensor, float]:
        """``x`` after ``part`` of the step, and its sigma."""
        grown, at = math.expm1(part * h), sigma * math.exp(-part * h)
        return x - (eps * grown + correction * (grown / (part * h) - 1)) * at, at

    if order == 1:
        return advanced(1)[0]
    u_1, sigma_1 = advanced(1 / order)
    eps_1 = (u_1 - (yield u_1, sigma_1)) / sigma_1
    if order == 2:
        return x - eps_1 * (sigma_next * math.expm1(h))
    u_2, sigma_2 = advanced(2 / 3, (eps_1 - eps) * 2)
    eps_2 = (u_2 - (yield u_2, sigma_2)) / sigma_2
    return advanced(1, (eps_2 - eps) * 1.5)[0]


def restart(x: Tensor, sigmas: Sequence[float], noise_sampler: NoiseSampler) -> Solver:
    """Restart sampling (Xu et al. 2023): Heun's steps, and from 20 steps on some of the last ones are repeated, once or
    twice, after noise has been added again."""
    previous = sigmas[0]
    for sigma, sigma_next in restart_steps(sigmas):
        if sigma > previous:
            x = x + noise_sampler(previous, sigma) * math.sqrt(sigma**2 - previous**2)
        x = yield from _heun_step(x, sigma, sigma_next)
        previous = sigma_next
    return x


def restart_steps(sigmas: Sequence[float]) -> list[tuple[float, float]]:
    """The (sigma, sigma_next) of every step of :func:`restart`, with the WebUI's restart segment: from near 0.1 back up
    to near 2, on Karras' sigmas, within the number of steps that was asked for."""
    steps = len(sigmas) - 1
    if steps < 20:
        return list(pairwise(sigmas))
    segment, repeats = (9, 1) if steps < 36 else (steps // 4, 2)
    main = [*_karras(sigmas[0], sigmas[-2], steps - segment * repeats), 0.0]
    low, high = (min(range(len(main)), key=lambda n: abs(main[n] - near)) for near in (0.1, 2.0))
    if high >= low:
        return list(pairwise(main))
    again = list(pairwise(_karras(main[high], main[low], segment + 1)))
    return [*pairwise(main[: low + 1]), *again * repeats, *pairwise(main[low:])]


def _karras(sigma_max: float, sigma_min: float, count: int) -> list[float]:
    ramp = torch.linspace(0, 1, count, dtype=torch.float64)
    return [float(sigma) for sigma in karras(ramp.new_tensor(sigma_max), ramp.new_tensor(sigma_min), ramp)]


def _heun_step(x: Tensor, sigma: float, sigma_next: float) -> Solver:
    """Karras et al. 2022, algorithm 1, without churn."""
    denoised = yield x, sigma
    if sigma_next == 0:
        return denoised
    d = (x - denoised) / sigma
    x_2 = x + d * (sigma_next - sigma)
    denoised_2 = yield x_2, sigma_next
    return x + (d + (x_2 - denoised_2) / sigma_next) / 2 * (sigma_next - sigma)


def lcm(x: Tensor, sigmas: Sequence[float], noise_sampler: NoiseSampler) -> Solver:
    """Latent consistency sampling (Luo et al. 2023, algorithm 1): fresh noise on every call's ``denoised``. The paper's
    boundary coefficients are 1 within 1e-5 at the times of its 50 sigmas."""
    for sigma, sigma_next in pairwise(sigmas):
        x = yield x, sigma
        if sigma_next > 0:
            x = x + noise_sampler(sigma, sigma_next) * sigma_next
    return x


def _first_order(x: Tensor, denoised: Tensor, ratio: float) -> Tensor:
    """DPM-Solver++'s step of order 1 to the sigma that is ``ratio`` times the present one: exact if ``denoised`` stays
    the same."""
    return x * ratio + denoised * (1 - ratio)


K_SAMPLERS: Mapping[str, KSampler] = {
    "DPM2": dpm_2,
    "DPM2 a": partial(dpm_2, ancestral=True),
    "DPM++ 2S a": dpmpp_2s_ancestral,
    "DPM++ SDE": dpmpp_sde,
    "DPM++ 2M SDE": partial(dpmpp_multistep_sde, order=2, heun=False),
    "DPM++ 2M SDE Heun": partial(dpmpp_multistep_sde, order=2, heun=True),
    "DPM++ 3M SDE": partial(dpmpp_multistep_sde, order=3, heun=True),
    "DPM fast": dpm_fast,
    "Restart": restart,
    "LCM": lcm,
}
