"""How well a figure tells two kinds of pictures apart, and how sure that is."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from loratools.errors import MeasureError

Values = npt.NDArray[np.float64]
_NORMAL_95 = 1.959964


@dataclass(frozen=True)
class Auc:
    """The chance that a bad picture's figure is above a good one's (ties count half), with its 95 % interval.

    0.5 is guessing, 1 is without a mistake.
    """

    value: float
    low: float
    high: float
    bad: int
    good: int

    @property
    def clears_chance(self) -> bool:
        """Whether guessing lies below the interval."""
        return self.low > 0.5

    def text(self) -> str:
        """``AUC 0.93 (0.86 to 0.97) over 22 bad and 24 good pictures``."""
        interval = f"{self.low:.2f} to {self.high:.2f}"
        return f"AUC {self.value:.2f} ({interval}) over {self.bad} bad and {self.good} good pictures"


def auc(bad: npt.ArrayLike, good: npt.ArrayLike) -> Auc:
    """The area under the ROC curve of figures that should be high for ``bad`` and low for ``good`` pictures.

    The variance is DeLong's (1988), the interval is taken on the logit's scale, so that it stays within 0 and 1. Where
    nothing is told wrong DeLong's variance is 0 and says nothing; the bound is then the one of a share that was never
    missed in min(bad, good) trials (the rule of three).

    Raises:
        MeasureError: if one side has fewer than two pictures.
    """
    x, y = np.asarray(bad, dtype=np.float64), np.asarray(good, dtype=np.float64)
    if min(len(x), len(y)) < 2:
        raise MeasureError("two good and two bad pictures at least are needed to say how well they are told apart")
    wins = (x[:, None] > y).astype(np.float64) + 0.5 * (x[:, None] == y)
    value = float(wins.mean())
    variance = float(wins.mean(1).var(ddof=1) / len(x) + wins.mean(0).var(ddof=1) / len(y))
    low, high = _interval(value, variance, min(len(x), len(y)))
    return Auc(value, low, high, len(x), len(y))


def _interval(value: float, variance: float, fewest: int) -> tuple[float, float]:
    unseen = min(0.5, 3 / fewest)  # what a rate may be that was 0 in so many trials
    if value in (0.0, 1.0) or variance <= 0:
        return max(0.0, value - unseen), min(1.0, value + unseen)
    logit = math.log(value / (1 - value))
    spread = _NORMAL_95 * math.sqrt(variance) / (value * (1 - value))
    return _logistic(logit - spread), _logistic(logit + spread)


def _logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
