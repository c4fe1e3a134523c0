"""Learning rates as pure functions of the step, so that resuming needs no scheduler state."""

from __future__ import annotations

import math
from dataclasses import dataclass

from loratools.errors import TrainingError
from loratools.train.config.optimizer import OptimizerConfig, parse_lr_rules


def warmup_steps(warmup: float, total: int) -> int:
    """Steps of warm-up (or decay): ``warmup`` itself from 1 on, a share of ``total`` below."""
    return round(warmup * total) if warmup < 1 else round(warmup)


@dataclass(frozen=True)
class LrSchedule:
    """The factor on the learning rate at each step, as diffusers' and transformers' schedules define it.

    The rate rises linearly over the first ``warmup`` steps from 0 (warmup_stable_decay's from ``min_ratio``), then
    follows ``name``. Plain ``constant`` and ``piecewise_constant`` ignore the warm-up, as in diffusers.

    Attributes:
        total: steps of the whole run.
        cycles: of cosine_with_restarts; half-waves of cosine_with_min_lr and of warmup_stable_decay's decay.
        min_ratio: the factor that polynomial, cosine_with_min_lr and warmup_stable_decay end at.
        decay: steps of warmup_stable_decay's decay, the last ones.
        timescale: steps in which inverse_sqrt falls as from 1 to 1/sqrt(2); None is the warm-up, or 10000 without one.
        rules: piecewise_constant's.
    """

    name: str
    total: int
    warmup: int = 0
    cycles: int = 1
    power: float = 1.0
    min_ratio: float = 0.0
    decay: int = 0
    timescale: int | None = None
    rules: str = ""

    @staticmethod
    def of(config: OptimizerConfig, total: int) -> LrSchedule:
        """The config's schedule for a run of ``total`` steps."""
        return LrSchedule(
            name=config.lr_scheduler,
            total=total,
            warmup=warmup_steps(float(config.lr_warmup), total),
            cycles=config.lr_cycles,
            power=config.lr_power,
            min_ratio=config.lr_min_ratio,
            decay=warmup_steps(float(config.lr_decay), total),
            timescale=config.lr_timescale,
            rules=config.lr_rules,
        )

    def factor(self, step: int) -> float:
        """The factor at ``step``; 0 is the first.

        Raises:
            TrainingError: if there is no schedule of this name.
        """
        if self.name == "constant":
            return 1.0
        if self.name == "piecewise_constant":
            return next(factor for factor, until in parse_lr_rules(self.rules) if step < until)
        if step < self.warmup:
            rising = step / max(self.warmup, 1)
            return rising * (1 - self.min_ratio) + self.min_ratio if self.name == "warmup_stable_decay" else rising
        return self._after_warmup(step)

    def _after_warmup(self, step: int) -> float:
        progress = min((step - self.warmup) / max(self.total - self.warmup, 1), 1.0)
        match self.name:
            case "constant_with_warmup":
                return 1.0
            case "cosine" | "cosine_with_warmup":
                return _half_waves(progress, 1)
            case "cosine_with_restarts":
                return 0.0 if progress >= 1 else _half_waves(self.cycles * progress % 1, 1)
            case "cosine_with_min_lr":
                return _half_waves(progress, self.cycles) * (1 - self.min_ratio) + self.min_ratio
            case "linear":
                return 1 - progress
            case "polynomial":
                return float((1 - progress) ** self.power) * (1 - self.min_ratio) + self.min_ratio
            case "inverse_sqrt":
                scale = self.timescale or self.warmup or 10_000
                return 1 / math.sqrt((step + scale - self.warmup) / scale)
            case "warmup_stable_decay":
                return self._stable_then_decay(step)
        raise TrainingError(f"there is no learning-rate schedule '{self.name}'")

    def _stable_then_decay(self, step: int) -> float:
        start = max(self.total - self.decay, self.warmup)
        if step < start:
            return 1.0
        if step >= start + self.decay:
            return self.min_ratio
        return _half_waves((step - start) / self.decay, self.cycles) * (1 - self.min_ratio) + self.min_ratio


def _half_waves(progress: float, count: int) -> float:
    return 0.5 * (1 + math.cos(math.pi * count * progress))
