"""Means of figures over pictures, with standard errors that know which pictures share a prompt or a seed."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from loratools.errors import MeasureError

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A mean over ``n`` pictures; ``standard_error`` is NaN where there are too few to tell (one picture)."""

    mean: float
    standard_error: float
    n: int

    def text(self, digits: int = 2) -> str:
        """``0.35 +- 0.04``, for a person."""
        if math.isnan(self.standard_error):
            return f"{self.mean:.{digits}f}"
        return f"{self.mean:.{digits}f} ± {self.standard_error:.{digits}f}"


def estimate(
    values: npt.ArrayLike, prompts: Sequence[Hashable] | None = None, seeds: Sequence[Hashable] | None = None
) -> Estimate:
    """The mean of the values that are not NaN and its standard error.

    Pictures of one prompt are alike, and so are pictures of one seed, so that 4 prompts x 4 seeds are fewer than 16
    independent pictures. The variance is that of two-way clusters (Cameron, Gelbach and Miller 2011): the one by prompt
    plus the one by seed minus the one by picture, each with its factor G / (G - 1), and never below the one by picture.
    A grouping with a single group tells nothing of its own spread and is left out.

    Args:
        values: (n,).
        prompts, seeds: what groups each value; None where they do not matter.
    Raises:
        MeasureError: if there is no value that is not NaN.
    """
    whole = np.asarray(values, dtype=np.float64)
    known = ~np.isnan(whole)
    kept = whole[known]
    if not len(kept):
        raise MeasureError(
            "there is no value to take a mean of; every picture's is NaN: what measures has to tell of some"
        )
    groups = [
        [label for label, keep in zip(own, known, strict=True) if keep] for own in (prompts, seeds) if own is not None
    ]
    return Estimate(float(kept.mean()), math.sqrt(_variance_of_mean(kept, groups)), len(kept))


def paired_difference(
    after: npt.ArrayLike,
    before: npt.ArrayLike,
    prompts: Sequence[Hashable] | None = None,
    seeds: Sequence[Hashable] | None = None,
) -> Estimate:
    """The mean of ``after - before``, pair by pair, with the standard error of :func:`estimate`.

    Args:
        after, before: (n,) of the same prompts and seeds in the same order; a pair with a NaN is left out.
    Raises:
        MeasureError: if they are not equally long, or no pair is without NaN.
    """
    one, two = np.asarray(after, dtype=np.float64), np.asarray(before, dtype=np.float64)
    if one.shape != two.shape:
        raise MeasureError(
            f"{one.size} pictures cannot be paired with {two.size}; draw both with the same prompts and seeds"
        )
    return estimate(one - two, prompts, seeds)


def _variance_of_mean(values: Values, groupings: Sequence[Sequence[Hashable]]) -> float:
    """Of the mean of ``values``; NaN for a single one."""
    count = len(values)
    if count < 2:
        return math.nan
    residuals = (values - values.mean()) / count
    alone = _clustered(residuals, np.arange(count))
    telling = [own for own in map(_numbered, groupings) if 1 < own.max() + 1 < count]
    if not telling:
        return alone
    total = sum(_clustered(residuals, own) for own in telling)
    if len(telling) > 1:  # what prompts and seeds both count
        total -= _clustered(residuals, _numbered(list(zip(*telling, strict=True))))
    return max(alone, total)


def _numbered(labels: Sequence[Hashable]) -> npt.NDArray[np.intp]:
    """Each label's number, from 0, in the order in which they first stand."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(label, len(numbers)) for label in labels], dtype=np.intp)


def _clustered(residuals: Values, groups: npt.NDArray[np.intp]) -> float:
    """The sum of squares of the groups' sums, with the factor for their number."""
    sums = np.bincount(groups, weights=residuals)
    return float((sums**2).sum() * len(sums) / (len(sums) - 1))
