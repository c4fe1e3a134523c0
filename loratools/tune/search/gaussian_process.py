"""A Gaussian process over block weights: what a measure's mean would be for vectors that nobody has drawn, over
pictures that nobody has drawn either (Rasmussen and Williams, Gaussian Processes for Machine Learning, chapter 2).

Vectors are drawn for different pictures each, some of all that there could be: what a picture says beside the mean is
part of the data's covariance (:mod:`.kernel`), and no part of what is predicted.
"""

from __future__ import annotations

import numpy as np

from loratools.tune.arrays import Array
from loratools.tune.history import Samples
from loratools.tune.search.kernel import JITTER, fitted
from loratools.tune.search.warp import Warp


class GaussianProcess:
    """The posterior of one measure's mean, given ``samples``; the kernel of greatest evidence.

    It is a process on the scale of a :class:`.warp.Warp`; what goes in and comes out is counted as the measure counts.
    """

    def __init__(self, samples: Samples) -> None:
        self._points = samples.points
        self._warp = Warp.of(samples.means)
        warped = self._warp.to(samples.means)
        self._middle = float(warped.mean())
        self._scale = float(warped.std()) or 1.0
        own = fitted(samples.points, (warped - self._middle) / self._scale, samples.shares)
        self.kernel, self._alpha = own.kernel, own.alpha
        self._whitening = np.linalg.inv(own.lower)

    def mean(self, points: Array) -> Array:
        """What is likeliest (n,) at ``points`` (n, d)."""
        return self.quantile(points, 0.0)

    def quantile(self, points: Array, deviations: float) -> Array:
        """Values (n,) at ``points`` (n, d), so many standard deviations above what is likeliest."""
        with_data = self.kernel(points, self._points)
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
        covariance += np.eye(size) * (1e-6 * np.trace(covariance) / size + self._scale**2 * JITTER)
        drawn: Array = level[:, None] + np.linalg.cholesky(covariance) @ random.standard_normal((size, count))
        return self._warp.back(drawn)

    def _spread(self, points: Array, with_data: Array) -> Array:
        """Posterior standard deviations (n,) on the process's own scale."""
        left = self.kernel.variance(points) - ((self._whitening @ with_data.T) ** 2).sum(0)
        spread: Array = np.sqrt(np.maximum(left, 0))
        return spread

    def _posterior(self, points: Array) -> tuple[Array, Array]:
        """Means (n,) and covariances (n, n) on the scale of the curve."""
        with_data = self.kernel(points, self._points)
        whitened = self._whitening @ with_data.T
        covariance = self.kernel(points, points) - whitened.T @ whitened
        return self._middle + self._scale * (with_data @ self._alpha), self._scale**2 * covariance
