"""Small geometry: smooth contours, tubes and turns, all as (n, 2) float arrays with y growing downwards."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Points = Sequence[tuple[float, float]]


@lru_cache(maxsize=512)
def _basis(count: int, closed: bool, steps: int) -> Array:
    """The Catmull-Rom matrix that takes ``count`` control points to a dense curve through them."""
    segments = count if closed else count - 1
    rows = np.zeros((segments * steps + (0 if closed else 1), count))
    for segment in range(segments):
        around = [segment - 1, segment, segment + 1, segment + 2]
        around = [i % count for i in around] if closed else [min(max(i, 0), count - 1) for i in around]
        for step in range(steps):
            t = step / steps
            weights = (-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, -(t**2) + t**3)
            for index, weight in zip(around, weights, strict=True):
                rows[segment * steps + step, index] += weight / 2
    if not closed:
        rows[-1, -1] = 1.0
    return rows


def spline(points: Points | Array, closed: bool = True, steps: int = 6) -> Array:
    """A smooth curve through ``points`` (n, 2): (n * steps, 2) if closed, else ((n - 1) * steps + 1, 2)."""
    control = np.asarray(points, dtype=np.float64)
    return _basis(len(control), closed, steps) @ control


@lru_cache(maxsize=64)
def _circle(count: int) -> Array:
    turn = np.linspace(0, 2 * math.pi, count, endpoint=False)
    return np.stack([np.cos(turn), np.sin(turn)], axis=1)


def ellipse(x: float, y: float, rx: float, ry: float, turn: float = 0.0, count: int = 28) -> Array:
    """The contour of an ellipse about (x, y), turned by ``turn`` degrees."""
    points = _circle(count) * (rx, ry)
    return (rotate(points, turn) if turn else points) + (x, y)


@lru_cache(maxsize=8)
def _cap(count: int) -> Array:
    """A half circle from -90 to 90 degrees, as (along, across) weights."""
    turn = np.linspace(-math.pi / 2, math.pi / 2, count)
    return np.stack([np.cos(turn), np.sin(turn)], axis=1)


def tube(points: Points | Array, radii: float | Sequence[float], steps: int = 5, flat: bool = False) -> Array:
    """The closed contour of a round-ended tube about a smooth line; ``radii`` are one for all, or one a point.

    ``flat`` cuts the far end straight.
    """
    control = np.asarray(points, dtype=np.float64)
    basis = _basis(len(control), False, steps if len(control) > 2 else 1)
    line = basis @ control
    radius = np.full(len(control), radii) if isinstance(radii, float | int) else np.asarray(radii, dtype=np.float64)
    along = line.copy()  # np.gradient, but for its overhead
    along[1:-1] = line[2:] - line[:-2]
    along[0], along[-1] = line[1] - line[0], line[-1] - line[-2]
    along /= np.maximum(np.hypot(along[:, 0], along[:, 1]), 1e-9)[:, None]
    across = np.stack([-along[:, 1], along[:, 0]], axis=1)
    width = (basis @ radius)[:, None]
    cap = _cap(7)[1:-1]
    head = line[-1] + radius[-1] * (cap[:, :1] * along[-1] - cap[:, 1:] * across[-1])
    if flat:
        head = head[:0]
    tail = line[0] - radius[0] * (cap[:, :1] * along[0] - cap[:, 1:] * across[0])
    return np.concatenate([line + across * width, head, (line - across * width)[::-1], tail])


def rotate(points: Points | Array, degrees: float, about: tuple[float, float] = (0.0, 0.0)) -> Array:
    """Turn ``points`` clockwise on the screen by ``degrees`` about a point."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    turned: Array = (np.asarray(points, dtype=np.float64) - about) @ np.array([[c, s], [-s, c]]) + about
    return turned


def mirror(points: Points | Array) -> Array:
    """The same contour on the other side of x = 0."""
    return np.asarray(points, dtype=np.float64) * (-1.0, 1.0)


def symmetric(half: Points) -> Array:
    """Control points of a left-right symmetric contour, from its right half given from top to bottom."""
    right = np.asarray(half, dtype=np.float64)
    left = mirror(right)[::-1]
    keep = np.abs(left[:, 0]) > 1e-9
    return np.concatenate([right, left[keep]])


def bounds(contours: Sequence[Array]) -> tuple[float, float, float, float]:
    """The box (left, top, right, bottom) of several contours."""
    everything = np.concatenate(contours)
    low, high = everything.min(axis=0), everything.max(axis=0)
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])
