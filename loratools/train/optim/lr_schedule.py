"""Learning rates as pure functions of the step, so that resuming needs no scheduler state."""

from __future__ import annotations

import math

from loratools.errors import TrainingError
from loratools.train.config.optimizer import OptimizerConfig, parse_lr_rules


def warmup_steps(warmup: float, total: int) -> int:
    """Steps of warm-up (or decay): ``warmup`` itself from 1 on, a share of ``total`` below."""
    return round(warmup * total) if warmup < 1 else round(warmup)


def scheduled(config: OptimizerConfig, step: int, total: int) -> float:
    """The factor on every learning rate of a run at ``step`` (0 is the first) of ``total``."""
    return rate_factor(
        config.lr_scheduler,
        step,
        total,
        warmup_steps(float(config.lr_warmup), total),
        cycles=config.lr_cycles,
        power=config.lr_power,
        least=config.lr_min_ratio,
        decay=warmup_steps(float(config.lr_decay), total),
        timescale=config.lr_timescale,
        steps=config.lr_rules,
    )


def rate_factor(
    name: str,
    step: int,
    total: int,
    warmup: int,
    *,
    cycles: int = 1,
    power: float = 1.0,
    least: float = 0.0,
    decay: int = 0,
    timescale: int | None = None,
    steps: str = "",
) -> float:
    """The factor on the learning rate at ``step`` of ``total``, as diffusers' and transformers' schedules define it.

    The rate rises linearly over the first ``warmup`` steps from 0 (warmup_stable_decay's from ``least``), then follows
    ``name``. Plain ``constant`` and ``piecewise_constant`` ignore the warm-up, as there.

    Args:
        cycles: of cosine_with_restarts; half-waves of cosine_with_min_lr and of warmup_stable_decay's decay.
        least: the factor that polynomial and those two end at.
        decay: steps of warmup_stable_decay's decay, the last ones.
        timescale: steps in which inverse_sqrt falls as from 1 to 1/sqrt(2); None is the warm-up, or 10000 without one.
        steps: piecewise_constant's rules.
    """
    if name == "constant":
        return 1.0
    if name == "piecewise_constant":
        return next(factor for factor, until in parse_lr_rules(steps) if step < until)
    if step < warmup:
        rising = step / max(warmup, 1)
        return rising * (1 - least) + least if name == "warmup_stable_decay" else rising
    progress = min((step - warmup) / max(total - warmup, 1), 1.0)
    match name:
        case "constant_with_warmup":
            return 1.0
        case "cosine" | "cosine_with_warmup":
            return _half_waves(progress, 1)
        case "cosine_with_restarts":
            return 0.0 if progress >= 1 else _half_waves(cycles * progress % 1, 1)
        case "cosine_with_min_lr":
            return _half_waves(progress, cycles) * (1 - least) + least
        case "linear":
            return 1 - progress
        case "polynomial":
            return float((1 - progress) ** power) * (1 - least) + least
        case "inverse_sqrt":
            scale = timescale or warmup or 10_000
            return 1 / math.sqrt((step + scale - warmup) / scale)
        case "warmup_stable_decay":
            return _stable(step, max(total - decay, warmup), decay, cycles, least)
    raise TrainingError(f"there is no learning-rate schedule '{name}'")


def _half_waves(progress: float, count: int) -> float:
    return 0.5 * (1 + math.cos(math.pi * count * progress))


def _stable(step: int, start: int, decay: int, cycles: int, least: float) -> float:
    if step < start:
        return 1.0
    if step >= start + decay:
        return least
    return _half_waves((step - start) / decay, cycles) * (1 - least) + least
