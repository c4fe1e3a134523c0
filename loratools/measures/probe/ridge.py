"""A linear probe for two kinds of pictures, by ridge regression: a few dozen pictures, thousands of features.

Targets are +1 and -1, and each kind counts as much as the other however many there are: with the kernel K = X X' / d of
standardised features and weights w_i = n / (2 x pictures of i's kind), the dual weights a and the offset b solve

    (K + lambda W^-1) a + b = y,   sum of a = 0

(least squares support vector machines: Suykens and Vandewalle 1999, weighted). The balance keeps noise at an AUC of one
half: an offset by the mean of the targets that were not left out would give away the kind of the one that was.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from loratools.errors import MeasureError
from loratools.measures.probe.auc import Auc, auc

Values = npt.NDArray[np.float64]
PENALTIES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)  # lambda over the kernel's mean diagonal
_FOLDS = 10
_COUNTED = 6  # pictures of either kind, of groups that have both
_NEVER = -1  # the fold of pictures that are never left out


@dataclass(frozen=True, eq=False)
class Scaling:
    """Features made comparable: each minus its mean, over its deviation, among reference pictures."""

    mean: Values
    deviation: Values

    @classmethod
    def of(cls, features: Values) -> Scaling:
        """By the rows of ``features`` (n, d); a feature that never changes counts for nothing."""
        deviation = features.std(axis=0)
        still = deviation <= 1e-6 * max(float(deviation.max(initial=0.0)), 1e-12)
        return cls(features.mean(axis=0), np.where(still, np.inf, deviation))

    def __call__(self, features: Values) -> Values:
        scaled: Values = (features - self.mean) / self.deviation
        return scaled


@dataclass(frozen=True, eq=False)
class Probe:
    """What tells two kinds of pictures apart; figures around +1 are of the first kind, around -1 of the second.

    Attributes:
        weights, offset: (d,) of scaled features, and what is added.
        penalty: of :data:`PENALTIES`, the one that was best for pictures that were left out.
        left_out: (n,) figures for the pictures that it was made of, each without itself or its group.
        auc: how well these tell the kinds apart, within groups where enough have both kinds: what a search compares are
            pictures of one prompt, and a prompt that was left out has a level of its own.
        by_group: whether whole groups were left out.
    """

    scaling: Scaling
    weights: Values
    offset: float
    penalty: float
    left_out: Values
    auc: Auc
    by_group: bool

    def __call__(self, features: Values) -> Values:
        """(n,) figures for features (n, d)."""
        figures: Values = self.scaling(features) @ self.weights + self.offset
        return figures


def fit_probe(
    features: Values,
    first: npt.NDArray[np.bool_],
    scaling: Scaling | None = None,
    groups: Sequence[Hashable] | None = None,
    known: Values | None = None,
) -> Probe:
    """The probe whose figures for pictures that were left out are nearest to +1 and -1.

    Args:
        features: (n, d).
        first: (n,), which pictures are of the first kind.
        scaling: of the features; by default as these have it.
        groups: what may not be split between what is fitted and what is left out, such as prompts. None, fewer than
            three that have both kinds, or fewer than six pictures of either kind in these: tenths with as many of each
            kind.
        known: (k, d) features of more pictures, which are of the second kind for sure: always fitted with, never
            counted among what was left out.
    Raises:
        MeasureError: if a kind has fewer than three pictures.
    """
    if min(first.sum(), (~first).sum()) < 3:
        raise MeasureError("three pictures at least of either kind are needed to tell them apart")
    every = features if known is None else np.concatenate([features, known])
    scaling = scaling or Scaling.of(every)
    x, y = scaling(every), np.where(np.append(first, np.zeros(len(every) - len(first), dtype=bool)), 1.0, -1.0)
    kernel = x @ x.T / x.shape[1]
    mixed = _mixed(groups, first)
    folds = np.append(_folds(groups if mixed else None, first), np.full(len(every) - len(first), _NEVER))
    level = float(np.trace(kernel)) / len(y)
    fits = [_left_out(kernel, y, penalty * level, folds)[: len(first)] for penalty in PENALTIES]
    wanted = y[: len(first)]
    errors = [float(np.mean([((left - wanted)[kind] ** 2).mean() for kind in (first, ~first)])) for left in fits]
    best = int(np.argmin(errors))
    dual, offset = _dual(kernel, y, PENALTIES[best] * level)
    told = _told(fits[best], first, mixed)
    return Probe(scaling, x.T @ dual / x.shape[1], offset, PENALTIES[best], fits[best], told, bool(mixed))


def _told(figures: Values, first: npt.NDArray[np.bool_], mixed: Sequence[npt.NDArray[np.bool_]]) -> Auc:
    """Of figures (n,) for what was left out; each mixed group less the mean of its two kinds' means, others not."""
    if not mixed:
        return auc(figures[first], figures[~first])
    levelled = figures.copy()
    for here in mixed:
        levelled[here] -= (figures[here & first].mean() + figures[here & ~first].mean()) / 2
    kept = np.any(mixed, axis=0)
    return auc(levelled[kept & first], levelled[kept & ~first])


def _mixed(groups: Sequence[Hashable] | None, first: npt.NDArray[np.bool_]) -> list[npt.NDArray[np.bool_]]:
    """Which pictures each group with both kinds has; none unless there are three such groups and enough in them."""
    different = list(dict.fromkeys(groups or ()))
    every = [np.array([own == label for own in groups or ()], dtype=bool) for label in different]
    mixed = [own for own in every if 0 < first[own].sum() < own.sum()]
    counts = [sum(int((first[own] == kind).sum()) for own in mixed) for kind in (True, False)]
    return mixed if len(mixed) >= 3 and min(counts) >= _COUNTED else []


def _dual(kernel: Values, y: Values, penalty: float) -> tuple[Values, float]:
    """(n,) weights of the pictures, and the offset."""
    counts = np.where(y > 0, (y > 0).sum(), (y < 0).sum())
    border = np.ones((len(y), 1))
    system = np.block([[kernel + penalty * np.diag(counts * 2 / len(y)), border], [border.T, np.zeros((1, 1))]])
    solved = np.linalg.solve(system, np.append(y, 0.0))
    return solved[:-1], float(solved[-1])


def _left_out(kernel: Values, y: Values, penalty: float, folds: npt.NDArray[np.intp]) -> Values:
    """Figures (n,) for each fold from all others; NaN for what is never left out."""
    figures = np.full_like(y, np.nan)
    for fold in range(int(folds.max()) + 1):
        out = folds == fold
        dual, offset = _dual(kernel[np.ix_(~out, ~out)], y[~out], penalty)
        figures[out] = kernel[np.ix_(out, ~out)] @ dual + offset
    return figures


def _folds(groups: Sequence[Hashable] | None, first: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    """Which pictures are left out together: (n,) numbers.
    Single pictures would do harm: without one of a kind, the mean of that kind is more of a chance, which moves the
    figure of the one that was left out away from its kind.
    """
    numbers: dict[Hashable, int] = {}
    own = np.array([numbers.setdefault(label, len(numbers)) for label in groups or ()], dtype=np.intp)
    if len(numbers) >= 3 and all(0 < first[own != n].sum() < (own != n).sum() for n in range(len(numbers))):
        return own
    folds = np.empty(len(first), dtype=np.intp)
    rng = np.random.default_rng(0)
    for kind in (first, ~first):
        count = int(kind.sum())
        folds[kind] = rng.permutation(count) % min(_FOLDS, int(first.sum()), int((~first).sum()))
    return folds
