"""How alike two vectors' means are: over all pictures that there could be, and over the few that were drawn.

A measure's mean changes nearly linearly with the weights and saturates slowly, so the kernel is a constant, a linear
and a squared-exponential part (Rasmussen and Williams, Gaussian Processes for Machine Learning, chapters 4 and 5). A
picture does not answer to a vector as others do: each has a function of its own besides, of the same shape, by which it
lies above the mean or below. It is nought at the stack as it was given, whose pictures the others are compared with.
Without it a search takes what its own pictures like for what all do, and the more vectors it tries the more so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from loratools.tune.arrays import Array

JITTER = 1e-8
_CHOICES: dict[str, tuple[float, ...]] = {
    "length": (0.2, 0.5, 1.0),
    "linear": (1.0, 3.0, 10.0),
    "curved": (0.1, 0.4, 1.0, 3.0),
    "noise": (0.02, 0.1, 0.4, 1.5),
    "own": (0.1, 0.4, 1.5, 5.0),
}
_ROUNDS = 2


@dataclass(frozen=True)
class Kernel:
    """Variances of the parts, of the data's own variance.

    Attributes:
        length: of the squared-exponential part, in weights a block.
        linear, curved: of the mean over all pictures.
        noise: of one picture, beyond what it says each time that it is drawn with vectors that are alike.
        own: of a picture's own function, of the mean's.
    """

    length: float = 0.5
    linear: float = 1.0
    curved: float = 0.4
    noise: float = 0.1
    own: float = 0.4

    def __call__(self, one: Array, two: Array) -> Array:
        """Covariances (n, m) of the mean over all pictures at points (n, d) and (m, d)."""
        return self.of(Geometry.of(one, two))

    def of(self, geometry: Geometry) -> Array:
        """As the above."""
        covariances: Array = 1.0 + self.linear * geometry.products + self.curved * geometry.near(self.length)
        return covariances

    def of_pictures(self, geometry: Geometry) -> Array:
        """Covariances (n, m) of one picture's own function."""
        bent = geometry.near(self.length) + 1.0
        bent -= geometry.near_start(self.length, 0)[:, None] + geometry.near_start(self.length, 1)
        covariances: Array = self.own * (self.linear * geometry.products + self.curved * bent)
        return covariances

    def variance(self, points: Array) -> Array:
        """The diagonal of :meth:`__call__` (n,)."""
        values: Array = 1.0 + self.linear * (points**2).sum(1) / points.shape[1] + self.curved
        return values


@dataclass(frozen=True, eq=False)
class Geometry:
    """What a kernel looks at in two sets of points, each less the start: products and squared distances a block."""

    products: Array
    squares: Array
    norms: tuple[Array, Array]
    _near: dict[float, Array] = field(default_factory=dict)

    @staticmethod
    def of(one: Array, two: Array) -> Geometry:
        """Of points (n, d) and (m, d)."""
        size = one.shape[1]
        products = one @ two.T / size
        norms = (one**2).sum(1) / size, (two**2).sum(1) / size
        return Geometry(products, np.maximum(norms[0][:, None] + norms[1] - 2 * products, 0), norms)

    def near(self, length: float) -> Array:
        """The squared-exponential part (n, m)."""
        if length not in self._near:
            self._near[length] = np.exp(-self.squares / (2 * length**2))
        return self._near[length]

    def near_start(self, length: float, which: int) -> Array:
        """That of one of the sets with the start."""
        values: Array = np.exp(-self.norms[which] / (2 * length**2))
        return values


@dataclass(frozen=True, eq=False)
class Fitted:
    """The kernel of greatest evidence; ``lower`` is the Cholesky factor of the data's covariance, ``alpha`` its weights
    for the data."""

    kernel: Kernel
    lower: Array
    alpha: Array


def fitted(points: Array, y: Array, shares: Array) -> Fitted:
    """The kernel of the greatest marginal likelihood that is found by changing one number at a time.

    Args:
        points: (n, d), less the start.
        y: (n,), of mean 0 and variance 1.
        shares: (n, pictures), each row the pictures' shares of a mean.
    """
    geometry, same = Geometry.of(points, points), shares @ shares.T
    known: dict[Kernel, tuple[float, Fitted]] = {}

    def tried(kernel: Kernel) -> float:
        if kernel not in known:
            covariance = kernel.of(geometry) + same * kernel.of_pictures(geometry)
            covariance += np.diag(kernel.noise * np.diag(same) + JITTER)
            lower = np.asarray(np.linalg.cholesky(covariance), dtype=np.float64)
            alpha = np.linalg.solve(lower.T, np.linalg.solve(lower, y))
            evidence = float(-0.5 * y @ alpha - np.log(np.diag(lower)).sum())
            known[kernel] = evidence, Fitted(kernel, lower, alpha)
        return known[kernel][0]

    best = Kernel()
    for _ in range(_ROUNDS):
        for name in _CHOICES:
            best = max(_changed(best, name), key=tried)
    return known[best][1]


def _changed(kernel: Kernel, name: str) -> Iterator[Kernel]:
    for value in _CHOICES[name]:
        yield replace(kernel, **{name: value})
