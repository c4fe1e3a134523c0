"""A Gaussian process over block weights: what a measure's mean would be for vectors that nobody has drawn.

The mean over pictures changes nearly linearly with the weights and saturates slowly, so the kernel is a constant, a
linear and a squared-exponential part (Rasmussen and Williams, Gaussian Processes for Machine Learning, chapters 2, 4
and 5). Vectors are drawn for different pictures each. What a picture is above the others whatever the vector is taken
off before; what is left of that is a random effect of each picture, whose variance is part of the covariance.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from loratools.tune.arrays import Array
from loratools.tune.history import Samples
from loratools.tune.search.warp import Warp

_LENGTHS = (0.2, 0.5)  # of the squared-exponential part, in weights a block
_LINEAR = (1.0, 10.0)  # variances, of the data's
_CURVED = (0.1, 0.4, 1.0)
_NOISES = (0.02, 0.1, 0.4)  # of one picture
_JITTER = 1e-8


@dataclass(frozen=True)
class Kernel:
    """Variances of the parts, of the data's own variance, and the length of the curved one."""

    length: float
    linear: float
    curved: float
    noise: float

    def __call__(self, one: Array, two: Array) -> Array:
        """Covariances (n, m) of the mean over all pictures at points (n, d) and (m, d)."""
        products = one @ two.T
        squares = (one**2).sum(1)[:, None] + (two**2).sum(1) - 2 * products
        near = np.exp(-np.maximum(squares, 0) / (2 * one.shape[1] * self.length**2))
        covariances: Array = 1.0 + self.linear * products / one.shape[1] + self.curved * near
        return covariances

    def variance(self, points: Array) -> Array:
        """The diagonal of the above (n,)."""
        values: Array = 1.0 + self.linear * (points**2).sum(1) / points.shape[1] + self.curved
        return values


class GaussianProcess:
    """The posterior of one measure's mean over all pictures, given ``samples``; the kernel of greatest evidence.

    It is a process on the scale of a :class:`.warp.Warp`; what goes in and comes out is counted as the measure counts.
    """

    def __init__(self, samples: Samples) -> None:
        self._points = samples.points
        self._warp = Warp.of(samples.means)
        warped = self._warp.to(samples.means)
        self._middle = float(warped.mean())
        self._scale = float(warped.std()) or 1.0
        y = (warped - self._middle) / self._scale
        slope = float(np.median(self._warp.slope(samples.means)))
        effects = samples.picture_variance * (slope / self._scale) ** 2
        self._effect = effects / samples.shares.shape[1]  # covariance with a mean over all pictures
        own = effects * samples.shares @ samples.shares.T
        counts = (samples.shares**2).sum(1)
        self.kernel, lower, self._alpha = _fitted(samples.points, y, own, counts)
        self._whitening = np.linalg.inv(lower)

    def mean(self, points: Array) -> Array:
        """What is likeliest (n,) at ``points`` (n, d)."""
        return self.quantile(points, 0.0)

    def quantile(self, points: Array, deviations: float) -> Array:
        """Values (n,) at ``points`` (n, d), so many standard deviations above what is likeliest."""
        with_data = self._with_data(points)
        level = with_data @ self._alpha
        if deviations:
            level = level + deviations * self._spread(points, with_data)
        return self._warp.back(self._middle + self._scale * level)

    def deviation(self, points: Array) -> Array:
        """Posterior standard deviations (n,)."""
        values: Array = (self.quantile(points, 1.0) - self.quantile(points, -1.0)) / 2
        return values

    def difference(self, points: Array, other: Array) -> tuple[Array, Array]:
        """Posterior mean and standard deviation (n,) of the values at ``points`` less the one at ``other`` (d,)."""
        both = np.concatenate([points, other[None]])
        level, covariance = self._posterior(both)
        variances = np.diag(covariance)[:-1] + covariance[-1, -1] - 2 * covariance[-1, :-1]
        values = self._warp.back(level)
        steepness = self._warp.slope(self._warp.back((level[:-1] + level[-1]) / 2))
        return values[:-1] - values[-1], np.sqrt(np.maximum(variances, 0)) / steepness

    def sample(self, points: Array, count: int, random: np.random.Generator) -> Array:
        """``count`` functions that the data allow, at ``points``: (n, count)."""
        level, covariance = self._posterior(points)
        size = len(points)
        covariance += np.eye(size) * (1e-6 * np.trace(covariance) / size + self._scale**2 * _JITTER)
        drawn: Array = level[:, None] + np.linalg.cholesky(covariance) @ random.standard_normal((size, count))
        return self._warp.back(drawn)

    def _with_data(self, points: Array) -> Array:
        covariances: Array = self.kernel(points, self._points) + self._effect
        return covariances

    def _spread(self, points: Array, with_data: Array) -> Array:
        """Posterior standard deviations (n,) on the process's own scale."""
        left = self.kernel.variance(points) + self._effect - ((self._whitening @ with_data.T) ** 2).sum(0)
        spread: Array = np.sqrt(np.maximum(left, 0))
        return spread

    def _posterior(self, points: Array) -> tuple[Array, Array]:
        """Means (n,) and covariances (n, n) on the scale of the curve."""
        with_data = self._with_data(points)
        whitened = self._whitening @ with_data.T
        covariance = self.kernel(points, points) + self._effect - whitened.T @ whitened
        return self._middle + self._scale * (with_data @ self._alpha), self._scale**2 * covariance


def _fitted(points: Array, y: Array, own: Array, counts: Array) -> tuple[Kernel, Array, Array]:
    """The kernel of greatest marginal likelihood, the Cholesky factor of the data's covariance, and its weights."""
    best: tuple[float, Kernel, Array, Array] | None = None
    for kernel in _kernels():
        covariance = kernel(points, points) + own + np.diag(kernel.noise * counts + _JITTER)
        lower: Array = np.asarray(np.linalg.cholesky(covariance), dtype=np.float64)
        alpha: Array = np.linalg.solve(lower.T, np.linalg.solve(lower, y))
        evidence = float(-0.5 * y @ alpha - np.log(np.diag(lower)).sum())
        if best is None or evidence > best[0]:
            best = evidence, kernel, lower, alpha
    if best is None:
        raise ValueError("there are no kernels to choose from")
    return best[1:]


def _kernels() -> Iterator[Kernel]:
    for length in _LENGTHS:
        for linear in _LINEAR:
            for curved in _CURVED:
                for noise in _NOISES:
                    yield Kernel(length, linear, curved, noise)
