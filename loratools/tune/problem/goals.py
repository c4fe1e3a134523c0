"""What a search is after: targets that are to become better, and what must be kept meanwhile, as numbers.

Style and obedience are constraints, not terms to trade: a vector that loses them is no answer, however sound its hands.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from loratools.measures.measure import Better
from loratools.tune.arrays import Array

STYLE = "style"  # the measure whose loss is limited by the share to keep; others may lose no more than noise
_NOISE, _SEEN = 1.5, 72  # standard errors of a mean over so many pictures: less than this is no loss
_LEAST = 0.25  # of a measure's spread over pictures: an excess over the base below this is no symptom
_BASES = 0.5  # of what the LoRA shows: where the base shows as much by itself, that is told
_SMALL = 0.25  # of a measure's own size: less than this is not counted as all that there is to keep

Values = Mapping[str, Sequence[float]]  # measure -> a value for each picture; NaN where it cannot tell


@dataclass(frozen=True)
class Target:
    """A measure that is to become better; its values are counted in ``scale``, from ``base``, with 0 as good as the
    base and 1 as bad as the whole LoRA."""

    name: str
    better: Better
    base: float
    scale: float
    shown_by_base: bool = False

    def cost(self, values: Sequence[float]) -> Array:
        """Each picture's excess over the base, in units of the whole LoRA's."""
        sign = 1.0 if self.better == "lower" else -1.0
        costs: Array = sign * (np.asarray(values, dtype=np.float64) - self.base) / self.scale
        return costs


@dataclass(frozen=True)
class Constraint:
    """A measure whose mean must not be worse than ``bound``; losses beyond it are counted in ``scale``.

    Attributes:
        weight: of a loss, where that of the style's is 1.
    """

    name: str
    better: Better
    bound: float
    scale: float
    weight: float = 1.0

    def worth(self, values: Sequence[float]) -> Array:
        """Each picture's distance from the bound, positive where it is kept, in units of ``scale``."""
        sign = 1.0 if self.better == "higher" else -1.0
        distances: Array = sign * (np.asarray(values, dtype=np.float64) - self.bound) / self.scale
        return distances


@dataclass(frozen=True)
class Goals:
    """The targets and the constraints of a search."""

    targets: tuple[Target, ...]
    constraints: tuple[Constraint, ...]

    @property
    def measures(self) -> tuple[Target | Constraint, ...]:
        """Both, for their names and which way is better."""
        return (*self.targets, *self.constraints)

    def cost(self, values: Values) -> Array:
        """Each picture's mean cost over the targets that can tell; NaN where none can."""
        costs = np.stack([target.cost(values[target.name]) for target in self.targets])
        return _mean(costs)

    def total(self, cost: Array, worths: Sequence[Array]) -> Array:
        """What is minimised (n,): the cost, and far more for each unit by which a constraint is missed."""
        weights = [each.weight for each in self.constraints]
        missed = sum(
            (weight * np.maximum(0.0, -worth) for weight, worth in zip(weights, worths, strict=True)),
            np.zeros_like(cost),
        )
        total: Array = cost + PENALTY * missed
        return total


PENALTY = 20.0  # of the whole excess, for a style that is missed by all that there is to keep
_OTHERS = 0.25  # of that, for other measures: a loss that is hardly seen must not outweigh the whole repair


def goals_of(
    targets: Mapping[str, Better], kept: Mapping[str, Better], whole: Values, base: Values, keep: float
) -> Goals:
    """The goals, from what the measures say of the whole LoRA's and of the base's pictures of the same shots.

    Args:
        targets, kept: measures by name, and which way is better.
        keep: share of the style's rise over the base that must stay.
    """
    return Goals(
        tuple(_target(name, better, whole[name], base[name]) for name, better in targets.items()),
        tuple(_constraint(name, better, whole[name], base[name], keep) for name, better in kept.items()),
    )


def _target(name: str, better: Better, whole: Sequence[float], base: Sequence[float]) -> Target:
    sign = 1.0 if better == "lower" else -1.0
    before, own, spread = known_mean(whole), known_mean(base), _spread([*whole, *base])
    excess = sign * (before - own)
    scale = excess if excess > _LEAST * spread else max(excess, spread)
    shown = excess <= _LEAST * spread or (better == "lower" and before > 0 and own >= _BASES * before)
    return Target(name, better, own, scale, shown_by_base=shown and name != STYLE)


def _constraint(name: str, better: Better, whole: Sequence[float], base: Sequence[float], keep: float) -> Constraint:
    sign = 1.0 if better == "higher" else -1.0
    before, own, spread = known_mean(whole), known_mean(base), _spread([*whole, *base])
    noise = _NOISE * _spread(whole) / math.sqrt(max(1, min(_SEEN, len(whole))))
    rise = sign * (before - own)
    is_style = name == STYLE and rise > 0
    allowed = (1 - keep) * rise if is_style else noise
    scale = max(abs(rise), spread, _SMALL * abs(before))
    return Constraint(name, better, before - sign * allowed, scale, 1.0 if is_style else _OTHERS)


def known_mean(values: Sequence[float]) -> float:
    """The mean of those that are no NaN; NaN where none is known."""
    known = [value for value in values if not math.isnan(value)]
    return math.fsum(known) / len(known) if known else math.nan


def _spread(values: Sequence[float]) -> float:
    """The standard deviation of the values that are known; 1 where they do not differ."""
    known = np.array([value for value in values if not math.isnan(value)])
    return (float(known.std()) if len(known) else 0.0) or 1.0


def _mean(rows: Array) -> Array:
    """The mean (n,) over rows (k, n), of what is no NaN."""
    known = ~np.isnan(rows)
    counts = known.sum(0)
    sums = np.where(known, rows, 0.0).sum(0)
    mean: Array = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    return mean
