"""Choices between two vectors' pictures -> how much each vector is liked, with its uncertainty.

Utility is a Gaussian process over vectors x (17 numbers around the whole LoRA's), and a choice is a probit of the
difference (Chu and Ghahramani 2005):

    f ~ GP(0, k)
    k(x, x') = linear * (x - 1)'(x' - 1) / d + curved * exp(-|x - x'|^2 / (2 d length^2)) + own * [x = x']
    P(left wins over right) = Phi(f_left - f_right)

so that the unit of utility is the voter's own unsureness about one choice. ``own`` is what is peculiar to the pictures
that happen to show a vector. A tie counts as half a win of each. The posterior is Laplace's approximation, and the
kernel's numbers are those of the greatest evidence on a small grid, weighed by a prior that is weak and prefers smooth.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt

from loratools.errors import MeasureError

Values = npt.NDArray[np.float64]
_STEPS = 60  # of Newton's method; it needs fewer than ten
_LEAST_CURVATURE = 1e-6


@dataclass(frozen=True)
class Choice:
    """Two vectors that were shown, by their numbers, and what the left one won: 1, 0.5 for a tie, or 0."""

    left: int
    right: int
    won: float


class Prior(Protocol):
    """What is believed of utilities before any choice."""

    @property
    def own(self) -> float:
        """The variance of what is peculiar to one vector's pictures."""
        ...

    def between(self, one: Values, two: Values) -> Values:
        """(n, m) covariances of the utilities of vectors (n, d) and (m, d), without what is peculiar to each."""
        ...


@dataclass(frozen=True)
class Kernel:
    """The numbers of the utility's prior."""

    linear: float = 8.0
    curved: float = 1.0
    length: float = 0.5
    own: float = 0.05

    def between(self, one: Values, two: Values) -> Values:
        """(n, m) for vectors (n, d) and (m, d), without what is peculiar to one vector's pictures."""
        d = one.shape[1]
        apart = np.maximum((one**2).sum(1)[:, None] + (two**2).sum(1) - 2 * one @ two.T, 0.0)
        linear, curved = (one - 1) @ (two - 1).T / d, np.exp(-apart / (2 * d * self.length**2))
        values: Values = self.linear * linear + self.curved * curved
        return values


@dataclass(frozen=True)
class FeatureKernel:
    """The prior of a utility that is linear in what a picture shows, where "vectors" are pictures' scaled features."""

    linear: float
    own: float = 0.05

    def between(self, one: Values, two: Values) -> Values:
        """(n, m) for features (n, d) and (m, d)."""
        values: Values = self.linear * (one @ two.T) / one.shape[1]
        return values

    def weights(self, vectors: Values, slope: Values) -> Values:
        """(d,) by which features are weighed in what ``slope`` (n,) makes of vectors (n, d)."""
        weights: Values = self.linear * (slope @ vectors) / vectors.shape[1]
        return weights


FEATURE_KERNELS = tuple(FeatureKernel(linear) for linear in (1.0, 4.0, 16.0, 64.0))
KERNELS = tuple(
    Kernel(linear, curved, length)
    for linear, curved, length in itertools.product((1.0, 6.0, 36.0), (0.3, 2.0, 12.0), (0.25, 0.5))
)


@dataclass(frozen=True, eq=False)
class Preference:
    """The posterior of the utility after some choices.

    Attributes:
        vectors: (n, d), those that choices speak of by number.
        kernel: the prior's.
        utilities: (n,) the most probable ones.
        choices: that it was made of.
    """

    vectors: Values
    kernel: Prior
    utilities: Values
    _curvature: Values  # (n, n): of minus the log likelihood
    _slope: Values  # (n,): of the log likelihood
    choices: tuple[Choice, ...] = ()

    def mean(self, vectors: Values) -> Values:
        """(m,) expected utility of any vectors (m, d)."""
        expected: Values = self.kernel.between(vectors, self.vectors) @ self._slope
        return expected

    @property
    def weights(self) -> Values:
        """(d,) by which features are weighed: expected utility is their weighed sum.

        Raises:
            TypeError: for another prior than a :class:`FeatureKernel`.
        """
        if not isinstance(self.kernel, FeatureKernel):
            raise TypeError("only what is linear in features has a weight for each")
        return self.kernel.weights(self.vectors, self._slope)

    def covariance(self, vectors: Values) -> Values:
        """(m, m) of the utilities of vectors (m, d)."""
        across = self.kernel.between(vectors, self.vectors)
        own: Values = self.kernel.between(vectors, vectors) - across @ self._shrink @ across.T
        return own

    def difference(self, one: Values, two: Values) -> tuple[float, float]:
        """Mean and standard deviation of the utility of vector ``one`` (d,) minus that of ``two``."""
        both = np.stack([one, two])
        mean, covariance = self.mean(both), self.covariance(both)
        variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
        return float(mean[0] - mean[1]), math.sqrt(max(float(variance), 0.0))

    @cached_property
    def _shrink(self) -> Values:
        """(I + W K)^-1 W, for the posterior's covariance K - K' (I + W K)^-1 W K'."""
        k = _prior(self.kernel, self.vectors)
        return np.asarray(np.linalg.solve(np.eye(len(k)) + self._curvature @ k, self._curvature), dtype=np.float64)


def fit_preference(vectors: npt.ArrayLike, choices: Sequence[Choice], kernels: Sequence[Prior] = KERNELS) -> Preference:
    """The posterior after ``choices``, with the kernel of the greatest evidence.

    Args:
        vectors: (n, d).
        kernels: those to choose from.
    Raises:
        MeasureError: for a choice that names no vector, two times the same one, or a share won outside 0 to 1.
    """
    own = np.asarray(vectors, dtype=np.float64)
    for choice in choices:
        if choice.left == choice.right or not all(0 <= end < len(own) for end in (choice.left, choice.right)):
            raise MeasureError(f"a choice between {choice.left} and {choice.right} is none among {len(own)} vectors")
        if not 0 <= choice.won <= 1:
            raise MeasureError(f"a choice's left side won {choice.won}; it should be 1, 0.5 for a tie, or 0")
    fits = [_laplace(own, choices, kernel) for kernel in kernels]
    return max(fits, key=lambda fit: fit[0])[1]


def _prior(kernel: Prior, vectors: Values) -> Values:
    k: Values = kernel.between(vectors, vectors) + kernel.own * np.eye(len(vectors))
    return k


def _laplace(vectors: Values, choices: Sequence[Choice], kernel: Prior) -> tuple[float, Preference]:
    """(log evidence, posterior), by Newton's method with halved steps (Rasmussen and Williams 2006, 3.4)."""
    k = _prior(kernel, vectors)
    likelihood = _Likelihood(choices, len(vectors))
    f, slope = np.zeros(len(k)), np.zeros(len(k))
    best = likelihood.log(f)
    for _ in range(_STEPS):
        gradient, curvature = likelihood.gradient(f), likelihood.curvature(f)
        wanted = np.linalg.solve(np.eye(len(k)) + curvature @ k, curvature @ f + gradient)
        step = 1.0
        while True:
            tried = slope + step * (wanted - slope)
            value = likelihood.log(k @ tried) - 0.5 * float(tried @ k @ tried)
            if value >= best - 1e-12 or step < 1e-3:
                break
            step /= 2
        done = abs(value - best) < 1e-9
        slope, f, best = tried, k @ tried, value
        if done:
            break
    curvature = likelihood.curvature(f)
    _, determinant = np.linalg.slogdet(np.eye(len(k)) + curvature @ k)
    evidence = best - 0.5 * float(determinant)
    return evidence, Preference(vectors, kernel, f, curvature, slope, tuple(choices))


class _Likelihood:
    """sum of won * log Phi(d) + (1 - won) * log Phi(-d), with d the difference of a choice's utilities."""

    def __init__(self, choices: Sequence[Choice], count: int) -> None:
        self._sides = np.zeros((len(choices), count))
        for row, choice in enumerate(choices):
            self._sides[row, choice.left], self._sides[row, choice.right] = 1.0, -1.0
        self._won = np.array([choice.won for choice in choices], dtype=np.float64)

    def log(self, f: Values) -> float:
        d = self._sides @ f
        return float((self._won * log_normal(d) + (1 - self._won) * log_normal(-d)).sum())

    def gradient(self, f: Values) -> Values:
        d = self._sides @ f
        gradient: Values = self._sides.T @ (self._won * _hazard(d) - (1 - self._won) * _hazard(-d))
        return gradient

    def curvature(self, f: Values) -> Values:
        d = self._sides @ f
        up, down = _hazard(d), _hazard(-d)
        weights = self._won * up * (up + d) + (1 - self._won) * down * (down - d)
        curvature: Values = (self._sides.T * np.maximum(weights, _LEAST_CURVATURE)) @ self._sides
        return curvature


def normal(d: Values) -> Values:
    """Phi(d), the chance that a standard normal number is below ``d``."""
    return np.exp(log_normal(d))


def log_normal(d: Values) -> Values:
    """log Phi(d), also far below 0, where Phi itself is no number any more."""
    import torch

    logs: Values = torch.special.log_ndtr(torch.as_tensor(d, dtype=torch.float64)).numpy()
    return logs


def _hazard(d: Values) -> Values:
    """phi(d) / Phi(d), the slope of log Phi."""
    return np.exp(-0.5 * d**2 - 0.5 * math.log(2 * math.pi) - log_normal(d))
