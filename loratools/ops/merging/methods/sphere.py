"""SLERP and the Karcher mean: LoRAs averaged along arcs, so that the mean of unlike ones is as strong as they are.

With ``u_i`` a term's direction in one module (its difference over its norm, a negative weight turning it round) and
``p_i`` its share of the absolute weights, the result's direction is the weighted mean of the ``u_i`` on the unit
sphere, and its norm ``sum |w_i| |d_i|``: what the sum would have if all pointed one way. Both lie in the span of the
differences, so that the result is an exact sum with other weights, found from their inner products alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from loratools.adapter.algebra.lowrank import Delta, LowRank, inner
from loratools.errors import MergeStringError
from loratools.ops.merging.combine import Combined
from loratools.ops.merging.terms import Term

_OPPOSITE = 1e-6  # of a direction: a mean that short has none
_CLOSE = 1e-7  # radians: two directions are one
_STILL = 1e-13  # radians: a step that moves the mean no more
_STEPS = 500

Mean = Callable[[Tensor, Tensor], Tensor]


class SphereMerge(Combined):
    """The weighted mean of terms on the sphere, lazily by module: a sum whose weights come from the differences.

    A term that is absent or zero in a module has no direction there and does not count.

    Args:
        mean: of the directions' cosines (n, n) and their shares (n,), coefficients (n,) of a unit vector.
    Raises:
        MergeStringError: on looking a module up whose directions are opposite, so that no mean is nearest.
    """

    def __init__(self, terms: Sequence[Term], mean: Mean) -> None:
        super().__init__(terms)
        self._mean = mean
        self._coefficients: dict[str, tuple[tuple[Term, float], ...]] = {}

    def parts(self, name: str) -> tuple[tuple[Term, float], ...]:
        """The terms that change a module, each with the weight that the mean gives it."""
        if name not in self._coefficients:
            self._coefficients[name] = self._weighted(name)
        return self._coefficients[name]

    def delta(self, name: str, dtype: torch.dtype = torch.float32) -> Delta:
        """The mean for one module; its rank is the sum's, padded where a term does not count."""
        delta = super().delta(name, dtype)
        return delta.padded(self.ranks[name]) if isinstance(delta, LowRank) else delta

    def _weighted(self, name: str) -> tuple[tuple[Term, float], ...]:
        given = [(term, strength, term.adapter.delta(name, torch.float64)) for term, strength in super().parts(name)]
        sized = [(term, strength, delta, math.sqrt(max(inner(delta, delta), 0.0))) for term, strength, delta in given]
        live = [one for one in sized if one[3] > 0]
        if len(live) < 2:
            return tuple((term, strength) for term, strength, _, _ in live)
        units = [math.copysign(1 / norm, strength) for _, strength, _, norm in live]
        cosines = torch.tensor(
            [
                [a * b * inner(one[2], two[2]) for b, two in zip(units, live, strict=True)]
                for a, one in zip(units, live, strict=True)
            ],
            dtype=torch.float64,
        )
        sizes = torch.tensor([abs(strength) for _, strength, _, _ in live], dtype=torch.float64)
        try:
            coefficients = self._mean(cosines, sizes / sizes.sum())
        except _OppositeError as error:
            names = " and ".join(term.label or term.adapter.path.name for term, *_ in live)
            raise MergeStringError(
                f"in module {name} {names} point in opposite directions, between which no mean is nearest; slerp and "
                "karcher average LoRAs, the method exact subtracts them"
            ) from error
        norm = sum(abs(strength) * size for _, strength, _, size in live)
        weights = [norm * float(c) * unit for c, unit in zip(coefficients, units, strict=True)]
        return tuple((term, weight) for (term, *_), weight in zip(live, weights, strict=True) if weight != 0)


class _OppositeError(Exception):
    """Directions whose mean on the sphere is not determined."""


def slerp(cosines: Tensor, shares: Tensor) -> Tensor:
    """Shoemake (1985): ``sin((1 - t) a) / sin a`` and ``sin(t a) / sin a`` for an angle ``a`` and a way ``t``."""
    cosine, way = max(-1.0, min(1.0, float(cosines[0, 1]))), float(shares[1])
    if cosine < -1 + _OPPOSITE:
        raise _OppositeError
    angle = math.acos(cosine)
    if angle < _CLOSE:
        return shares
    return torch.tensor([math.sin((1 - way) * angle), math.sin(way * angle)], dtype=torch.float64) / math.sin(angle)


def karcher(cosines: Tensor, shares: Tensor) -> Tensor:
    """Karcher (1977): the point with the least ``sum p_i angle_i^2``, by steps along the mean of the logarithms.

    Everything is in coefficients over the ``u_i``: ``|c|^2 = c^T G c`` with the cosines ``G``.
    """
    mean = _unit(shares, cosines)
    for _ in range(_STEPS):
        near = (cosines @ mean).clamp(-1.0, 1.0)
        angles = torch.arccos(near)
        scale = torch.where(angles > _CLOSE, angles / torch.sin(angles).clamp(min=1e-300), torch.ones_like(angles))
        pull = shares * scale
        step = pull - float(pull @ near) * mean
        length = _length(step, cosines)
        if length < _STILL:
            return mean
        mean = _unit(math.cos(length) * mean + math.sin(length) / length * step, cosines)
    if length < _CLOSE:  # as near as rounding lets it come
        return mean
    raise _OppositeError


def _length(coefficients: Tensor, cosines: Tensor) -> float:
    return math.sqrt(max(float(coefficients @ cosines @ coefficients), 0.0))


def _unit(coefficients: Tensor, cosines: Tensor) -> Tensor:
    length = _length(coefficients, cosines)
    if length < _OPPOSITE:
        raise _OppositeError
    return coefficients / length
