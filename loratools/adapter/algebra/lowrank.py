"""The algebra of weight differences: what a LoRA adds to one module, as factors that are never multiplied out.

``LowRank(up, down, shape)`` stands for ``up @ down`` seen as ``shape``. No alpha exists here: reading folds it in.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from loratools.adapter.algebra.shapes import limit
from loratools.errors import ShapeError

__all__ = [
    "Delta",
    "Dense",
    "LowRank",
    "Vector",
    "balance",
    "balancing",
    "concatenate",
    "finite",
    "gram",
    "inner",
    "limit",
    "same_matrix",
    "zero",
]

# A component whose largest entry is 2**-8 keeps its entries down to 1/64 of that above fp16's subnormals (2**-14).
_COMFORT = -8
_Integers = npt.NDArray[np.int64]
_FURTHEST = 100  # 2**100 is still a float32
_CEILING = 15  # 2**15 is the last power of two below fp16's largest number, 65504


@dataclass(frozen=True, eq=False)
class LowRank:
    """``delta = up @ down`` seen as ``shape``.

    Args:
        up: (out, r).
        down: (r, in * kh * kw).
        shape: (out, in) of a linear module, or (out, in, kh, kw) of a convolution.
    Raises:
        ShapeError: if the three do not fit together.
    """

    up: Tensor
    down: Tensor
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        rows, columns = self.shape[0], math.prod(self.shape[1:])
        ranks = (self.up.shape[-1], self.down.shape[0])
        if tuple(self.up.shape) != (rows, ranks[0]) or tuple(self.down.shape) != (ranks[0], columns):
            raise ShapeError(
                f"factors {tuple(self.up.shape)} and {tuple(self.down.shape)} do not multiply to {self.shape}; "
                "they need the shapes (out, rank) and (rank, in * kh * kw)"
            )

    @property
    def rank(self) -> int:
        """Number of columns of ``up``, which may be above the matrix's true rank."""
        return self.up.shape[1]

    @property
    def grams(self) -> tuple[Tensor, Tensor]:
        """``up^T up`` and ``down down^T``, (r, r) in float64 by :func:`gram`; kept: norms and errors share them."""
        known: tuple[Tensor, Tensor] | None = self.__dict__.get("_grams")
        if known is None:  # not a cached_property: before Python 3.12 those let one thread in at a time
            known = gram(self.up, self.up), gram(self.down.T, self.down.T)
            self.__dict__["_grams"] = known
        return known

    def scaled(self, factor: float) -> LowRank:
        """``factor * delta``; the factor goes into ``up``, so a sign changes nothing else."""
        if factor == 1:
            return self
        lift = torch.tensor([factor], dtype=torch.float64)
        return LowRank(self.up * factor, self.down, self.shape)._knowing(self, lift, torch.ones_like(lift))

    def shifted(self, shift: _Integers) -> LowRank:
        """The same matrix, each component's ``up`` times 2**shift and its ``down`` divided by that."""
        lift, drop = (torch.from_numpy(np.ldexp(1.0, power)) for power in (shift, -shift))
        up, down = self.up * lift.to(self.up.dtype), self.down * drop.to(self.down.dtype)[:, None]
        return LowRank(up, down, self.shape)._knowing(self, lift, drop)

    def _knowing(self, other: LowRank, lift: Tensor, drop: Tensor) -> LowRank:
        """This object, its Gram matrices computed from ``other``'s where those are known: the factors here are
        ``other``'s with their components times ``lift`` and ``drop``."""
        if "_grams" in other.__dict__:
            ups, downs = other.grams
            self.__dict__["_grams"] = (ups * lift * lift[:, None], downs * drop * drop[:, None])
        return self

    def dense(self, dtype: torch.dtype = torch.float64) -> Tensor:
        """The whole matrix, of ``shape``, multiplied out in ``dtype``."""
        return (self.up.to(dtype) @ self.down.to(dtype)).reshape(self.shape)

    def norm(self) -> float:
        """Frobenius norm from the two Gram matrices, in float64; the matrix is never formed."""
        return math.sqrt(max(inner(self, self), 0.0))

    def padded(self, rank: int) -> LowRank:
        """The same difference with zero components up to ``rank``, for a layout that has promised that many."""
        lack = rank - self.rank
        if lack <= 0:
            return self
        up, down = self.up.new_zeros(self.shape[0], lack), self.down.new_zeros(lack, self.down.shape[1])
        return LowRank(torch.cat([self.up, up], 1), torch.cat([self.down, down]), self.shape)

    def to(self, dtype: torch.dtype) -> LowRank:
        """The same difference with both factors in ``dtype``."""
        return LowRank(self.up.to(dtype), self.down.to(dtype), self.shape)


@dataclass(frozen=True, eq=False)
class Dense:
    """A full difference of a weight: ``value`` has the weight's own shape."""

    value: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """The weight's shape."""
        return tuple(self.value.shape)

    @property
    def rank(self) -> int:
        """The highest rank such a matrix can have; 1 for a vector."""
        return limit(self.shape)

    def scaled(self, factor: float) -> Dense:
        """``factor * delta``."""
        return self if factor == 1 else Dense(self.value * factor)

    def dense(self, dtype: torch.dtype = torch.float64) -> Tensor:
        """The value itself in ``dtype``."""
        return self.value.to(dtype)

    def norm(self) -> float:
        """Frobenius norm in float64."""
        return float(torch.linalg.vector_norm(self.value.double()))


class Vector(Dense):
    """A difference of a bias or a norm's weight: one dimension, additive, no alpha."""

    def scaled(self, factor: float) -> Vector:
        """``factor * delta``."""
        return self if factor == 1 else Vector(self.value * factor)


Delta = LowRank | Dense | Vector


def concatenate(terms: Sequence[tuple[float, Delta]]) -> Delta:
    """The exact weighted sum ``sum_i c_i * d_i``: factors side by side, with ``c_i`` (and its sign) in ``up``.

    Terms of weight 0 add no columns. Low-rank terms stay low-rank; one full difference makes the sum a full one.

    Raises:
        ShapeError: if there are no terms, or they differ in (out, in * kh * kw).
    """
    if not terms:
        raise ShapeError("a sum of no terms has no shape; give at least one")
    shape = terms[0][1].shape
    for _, delta in terms[1:]:
        if not same_matrix(delta.shape, shape):
            raise ShapeError(f"differences of shapes {shape} and {delta.shape} cannot be added")
    kept = [(weight, delta) for weight, delta in terms if weight != 0]
    if not kept:
        return _zero_like(terms[0][1])
    if len(kept) == 1:
        weight, delta = kept[0]
        return delta.scaled(weight)
    factors = [(weight, delta) for weight, delta in kept if isinstance(delta, LowRank)]
    if len(factors) == len(kept):
        return LowRank(_scaled_ups(factors), torch.cat([delta.down for _, delta in factors]), shape)
    total = sum((delta.dense().reshape(shape) * weight for weight, delta in kept), torch.zeros(shape).double())
    total = total.to(torch.float32)
    return Vector(total) if all(isinstance(delta, Vector) for _, delta in kept) else Dense(total)


def _scaled_ups(terms: Sequence[tuple[float, LowRank]]) -> Tensor:
    """The ``up`` factors side by side, each times its weight, in one pass over the memory."""
    kinds = [delta.up.dtype for _, delta in terms]
    side = terms[0][1].up.new_empty(
        (terms[0][1].shape[0], sum(delta.rank for _, delta in terms)), dtype=max(kinds, key=lambda kind: kind.itemsize)
    )
    start = 0
    for weight, delta in terms:
        torch.mul(delta.up, weight, out=side[:, start : start + delta.rank])
        start += delta.rank
    return side


def zero(shape: tuple[int, ...], dtype: torch.dtype) -> Delta:
    """No difference at all, of rank 1: a file has no word for rank 0."""
    if len(shape) == 1:
        return Vector(torch.zeros(shape, dtype=dtype))
    return LowRank(torch.zeros(shape[0], 1, dtype=dtype), torch.zeros(1, math.prod(shape[1:]), dtype=dtype), shape)


def same_matrix(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    """Whether two shapes are the same (out, in * kh * kw) matrix: a linear module and a 1x1 convolution are."""
    return a[0] == b[0] and math.prod(a[1:]) == math.prod(b[1:])


def finite(tensor: Tensor) -> bool:
    """Whether no entry is NaN or infinite. Either one spoils a sum, so a finite sum settles it in one quick pass."""
    total = float(tensor.sum(dtype=torch.float32))
    return math.isfinite(total) or bool(torch.isfinite(tensor).all())


def gram(a: Tensor, b: Tensor) -> Tensor:
    """``a^T b`` in float64, from float32 products where those do not overflow: norms need no more than 6 digits."""
    quick = (a.T @ b).double()
    return quick if finite(quick) else a.double().T @ b.double()


def inner(a: Delta, b: Delta) -> float:
    """``<a, b> = tr((Ua^T Ub)(Db Da^T))`` (Frobenius) in float64, by Gram matrices where both are low-rank."""
    match a, b:
        case LowRank(), LowRank():
            ups = a.up.double().T @ b.up.double()
            downs = a.down.double() @ b.down.double().T
            return float((ups * downs).sum())
        case LowRank(), Dense():
            matrix = b.value.double().reshape(b.shape[0], -1)
            return float(((a.up.double().T @ matrix) * a.down.double()).sum())
        case Dense(), LowRank():
            return inner(b, a)
        case Dense(), Dense():
            return float((a.value.double().flatten() * b.value.double().flatten()).sum())
    raise ShapeError(f"no inner product of {type(a).__name__} and {type(b).__name__}")


def balance(delta: LowRank) -> LowRank:
    """The same matrix, bit for bit, with each component moved by a power of two away from fp16's underflow.

    Per component the weaker factor is lifted until its largest entry reaches 2**-8, or until both factors are alike,
    whichever comes first; entries beyond fp16's range are brought down. Only exponents change, decided by integers, so
    the result does not depend on threads or machines. Zero components are left alone.
    """
    shift: _Integers = balancing(delta.up, delta.down).numpy()
    return delta.shifted(shift) if shift.any() else delta


def balancing(up: Tensor, down: Tensor) -> Tensor:
    """By which power of two :func:`balance` lifts each component of ``up`` (..., out, r) and lowers that of ``down``
    (..., r, in): int64 (..., r), on any device."""
    up_largest, down_largest = up.abs().amax(-2).double(), down.abs().amax(-1).double()
    up_exponent, down_exponent = (torch.frexp(each).exponent.long() for each in (up_largest, down_largest))
    shift = _shift(up_exponent, down_exponent) - _shift(down_exponent, up_exponent)
    return torch.where((up_largest == 0) | (down_largest == 0), 0, shift)


def _shift(weak: Tensor, strong: Tensor) -> Tensor:
    """How many powers of two ``weak`` may take over from ``strong``, by the exponents e of their largest magnitudes
    written as m * 2**e with 0.5 <= m < 1."""
    wanted = torch.maximum(_COMFORT - weak, strong - _CEILING).clamp(0, _FURTHEST)
    room = ((strong - weak) // 2).clamp(min=0)
    return torch.minimum(wanted, room)


def _zero_like(delta: Delta) -> Delta:
    if isinstance(delta, LowRank):
        return LowRank(torch.zeros_like(delta.up[:, :1]), torch.zeros_like(delta.down[:1]), delta.shape)
    return delta.scaled(0.0)
