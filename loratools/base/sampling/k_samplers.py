"""Samplers that diffusers has not, or not in the form in which they are known, as their papers' formulas.

Each is a generator in k-diffusion's view: ``x`` is a clean picture plus noise of deviation sigma. It yields ``x`` and
its level, is sent what the model takes for the clean picture there, and returns the finished ``x``. Levels (n + 1,)
fall; ``noise(now, after)`` is a draw of unit deviation for the way from one level to another.

diffusers' own of these names take other levels, or half the model calls (DPM++ SDE), or have the sign of the third
term wrong (DPM++ 3M SDE in 0.42).
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


def ancestral_step(now: float, after: float) -> tuple[float, float]:
    """Ho et al. 2020, eq. 7, as levels: how far to go down, and the deviation of the noise that leads back up to
    ``after``."""
    up = min(after, after * math.sqrt(now**2 - after**2) / now)
    return math.sqrt(after**2 - up**2), up


def dpm_2(x: Tensor, levels: Sequence[float], noise: NoiseSampler, *, renewed: bool = False) -> Solver:
    """Lu et al. 2022, DPM-Solver-2 with Karras et al.'s steps: the slope halfway (of the logarithms) leads the whole
    way. ``renewed`` goes lower each time, and back up with fresh noise."""
    for now, after in pairwise(levels):
        down, up = ancestral_step(now, after) if renewed else (after, 0.0)
        clean = yield x, now
        if down == 0:
            x = clean
            continue
        middle = math.sqrt(now * down)
        half = x + (x - clean) / now * (middle - now)
        clean = yield half, middle
        x = x + (half - clean) / middle * (down - now)
        if renewed:
            x = x + noise(now, after) * up
    return x


def dpmpp_2s_ancestral(x: Tensor, levels: Sequence[float], noise: NoiseSampler) -> Solver:
    """Lu et al. 2022, DPM-Solver++(2S), algorithm 1 at r = 1/2, to a lower level, and back up with fresh noise."""
    for now, after in pairwise(levels):
        down, up = ancestral_step(now, after)
        clean = yield x, now
        if down > 0:
            middle = math.sqrt(now * down)
            clean = yield _towards(x, clean, middle / now), middle
        x = _towards(x, clean, down / now)
        if after > 0:
            x = x + noise(now, after) * up
    return x


def dpmpp_sde(x: Tensor, levels: Sequence[float], noise: NoiseSampler) -> Solver:
    """DPM-Solver++(2S) on the reverse SDE at r = 1/2: both halves are ancestral steps along one Brownian path."""
    for now, after in pairwise(levels):
        clean = yield x, now
        if after == 0:
            x = clean
            continue
        middle = math.sqrt(now * after)
        down, up = ancestral_step(now, middle)
        half = _towards(x, clean, down / now) + noise(now, middle) * up
        clean = yield half, middle
        down, up = ancestral_step(now, after)
        x = _towards(x, clean, down / now) + noise(now, after) * up
    return x


def dpmpp_multistep_sde(x: Tensor, levels: Sequence[float], noise: NoiseSampler, *, order: int, heun: bool) -> Solver:
    """Lu et al. 2022, SDE-DPM-Solver++(2M), eq. 17, and its third order: the clean picture is extrapolated from up to
    three calls. ``heun`` integrates the slope exactly, where the midpoint rule takes half the step."""
    found: list[tuple[Tensor, float]] = []  # earlier clean pictures, and the step that followed each; newest first
    for now, after in pairwise(levels):
        clean = yield x, now
        if after == 0:
            x = clean
            continue
        h = math.log(now / after)
        lost = -math.expm1(-2 * h)
        slope = 1 - lost / (2 * h) if heun else lost / 2
        moved = x * (after / now * math.exp(-h)) + clean * lost
        if found:
            ratio = found[0][1] / h
            first = (clean - found[0][0]) / ratio
            if len(found) > 1:
                other = found[1][1] / h
                bend = (first - (found[0][0] - found[1][0]) / other) / (ratio + other)
                moved = moved + bend * (0.5 - slope / (2 * h))
                first = first + bend * ratio
            moved = moved + first * slope
        x = moved + noise(now, after) * (after * math.sqrt(lost))
        found = [(clean, h), *found][: order - 1]
    return x


def dpm_fast(x: Tensor, levels: Sequence[float], noise: NoiseSampler) -> Solver:
    """Lu et al. 2022, DPM-Solver-fast: n calls in steps of order 3 and a rest, even in the logarithm; each goes lower
    than its end and back up with fresh noise, as the WebUI has it."""
    calls, high, low = len(levels) - 1, levels[0], levels[-2]
    if calls == 1:
        return (yield x, high)
    orders = [3] * (calls // 3 - 1) + [2, 1] if calls % 3 == 0 else [3] * (calls // 3) + [calls % 3]
    stops = [high * (low / high) ** (n / len(orders)) for n in range(len(orders) + 1)]
    for order, (now, after) in zip(orders, pairwise(stops), strict=True):
        down = max(low, ancestral_step(now, after)[0])
        x = yield from _dpm_step(x, now, down, order)
        x = x + noise(now, after) * math.sqrt(max(after**2 - down**2, 0.0))
    return x


def _dpm_step(x: Tensor, now: float, after: float, order: int) -> Solver:
    """DPM-Solver-1, -2 (algorithm 1, r = 1/2) and -3 (algorithm 2, r = 1/3 and 2/3): calls after equal parts of the
    logarithmic step, whose slopes bend the last one."""
    h = math.log(now / after)
    slope = (x - (yield x, now)) / now

    def held(part: float, bend: Tensor | float = 0.0) -> tuple[Tensor, float]:
        grown, at = math.expm1(part * h), now * math.exp(-part * h)
        return x - (slope * grown + bend * (grown / (part * h) - 1)) * at, at

    if order == 1:
        return held(1)[0]
    ahead, at = held(1 / order)
    first = (ahead - (yield ahead, at)) / at
    if order == 2:
        return x - first * (after * math.expm1(h))
    ahead, at = held(2 / 3, (first - slope) * 2)
    second = (ahead - (yield ahead, at)) / at
    return held(1, (second - slope) * 1.5)[0]


def restart(x: Tensor, levels: Sequence[float], noise: NoiseSampler) -> Solver:
    """Xu et al. 2023, Restart: Heun's steps, and from 20 steps on the last levels once or twice over, with noise."""
    before = levels[0]
    for now, after in restart_steps(levels):
        if now > before:
            x = x + noise(before, now) * math.sqrt(now**2 - before**2)
        x = yield from _heun_step(x, now, after)
        before = after
    return x


def restart_steps(levels: Sequence[float]) -> list[tuple[float, float]]:
    """The steps of :func:`restart`, as the WebUI has them: near 0.1 back up to near 2, on Karras' levels, within the
    number of steps that was asked for."""
    steps = len(levels) - 1
    if steps < 20:
        return list(pairwise(levels))
    count, again = (9, 1) if steps < 36 else (steps // 4, 2)
    main = [*_karras(levels[0], levels[-2], steps - count * again), 0.0]
    low, high = (min(range(len(main)), key=lambda n: abs(main[n] - near)) for near in (0.1, 2.0))
    if high >= low:
        return list(pairwise(main))
    back = list(pairwise(_karras(main[high], main[low], count + 1)))
    return [*pairwise(main[: low + 1]), *back * again, *pairwise(main[low:])]


def _karras(high: float, low: float, count: int) -> list[float]:
    ramp = torch.linspace(0, 1, count, dtype=torch.float64)
    return [float(level) for level in karras(ramp.new_tensor(high), ramp.new_tensor(low), ramp)]


def _heun_step(x: Tensor, now: float, after: float) -> Solver:
    """Karras et al. 2022, algorithm 1."""
    clean = yield x, now
    if after == 0:
        return clean
    slope = (x - clean) / now
    ahead = x + slope * (after - now)
    clean = yield ahead, after
    return x + (slope + (ahead - clean) / after) / 2 * (after - now)


def lcm(x: Tensor, levels: Sequence[float], noise: NoiseSampler) -> Solver:
    """Luo et al. 2023, algorithm 1: each call's clean picture with fresh noise on it. The paper's boundary factors are
    1 within 1e-5 at the times of its 50 levels."""
    for now, after in pairwise(levels):
        x = yield x, now
        if after > 0:
            x = x + noise(now, after) * after
    return x


def _towards(x: Tensor, clean: Tensor, share: float) -> Tensor:
    """``x`` with ``share`` of its distance from ``clean`` left: an exact step if ``clean`` stays what it is."""
    return x * share + clean * (1 - share)


K_SAMPLERS: Mapping[str, KSampler] = {
    "DPM2": dpm_2,
    "DPM2 a": partial(dpm_2, renewed=True),
    "DPM++ 2S a": dpmpp_2s_ancestral,
    "DPM++ SDE": dpmpp_sde,
    "DPM++ 2M SDE": partial(dpmpp_multistep_sde, order=2, heun=False),
    "DPM++ 2M SDE Heun": partial(dpmpp_multistep_sde, order=2, heun=True),
    "DPM++ 3M SDE": partial(dpmpp_multistep_sde, order=3, heun=True),
    "DPM fast": dpm_fast,
    "Restart": restart,
    "LCM": lcm,
}
