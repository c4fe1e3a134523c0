"""Rank rules, and the best approximation that a rule allows: QR of the factors, SVD of the small core, in float64."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from loratools.adapter.algebra.lowrank import Delta, LowRank
from loratools.errors import RankError

_FAR = 1e-2  # of the largest: a triangle whose diagonal stays above it is well conditioned
_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


@dataclass(frozen=True)
class Exact:
    """Keep everything."""

    def text(self) -> str:
        """As on the command line."""
        return "exact"


@dataclass(frozen=True)
class Fixed:
    """At most ``rank`` for every module."""

    rank: int

    def text(self) -> str:
        """As on the command line."""
        return str(self.rank)


@dataclass(frozen=True)
class Error:
    """The smallest rank whose relative Frobenius error is at most ``relative``, for every module."""

    relative: float

    def text(self) -> str:
        """As on the command line."""
        return f"error={self.relative:g}"


@dataclass(frozen=True)
class Energy:
    """The smallest rank that keeps the fraction ``keep`` of the sum of squared singular values, for every module."""

    keep: float

    def text(self) -> str:
        """As on the command line."""
        return f"energy={self.keep:g}"


@dataclass(frozen=True)
class Size:
    """The whole file in at most ``size`` bytes, spent where the singular values are largest, over all modules."""

    size: int

    def text(self) -> str:
        """As on the command line, in bytes."""
        return f"size={self.size}"


RankRule = Exact | Fixed | Error | Energy | Size


def parse_rank(text: str) -> RankRule:
    """Read ``exact``, ``32``, ``error=0.01``, ``energy=0.999`` or ``size=36MiB``.

    Raises:
        RankError: if it is none of these, or out of range.
    """
    word = text.strip().lower()
    key, separator, value = word.partition("=")
    if word == "exact":
        return Exact()
    if re.fullmatch(r"-?\d{1,9}", word):
        return Fixed(_at_least_one(int(word)))
    if separator and key == "rank" and re.fullmatch(r"-?\d{1,9}", value):
        return Fixed(_at_least_one(int(value)))
    if separator and key in ("error", "energy"):
        return _fraction(text, key, value)
    if separator and key == "size":
        return _size(text, value)
    raise RankError(f"rank '{text}' is not understood; write exact, 32, error=0.01, energy=0.999 or size=36MiB")


@dataclass(frozen=True, eq=False)
class Spectrum:
    """A thin SVD ``u * s @ v`` in float64: ``u`` (out, n), ``s`` (n,) falling, ``v`` (n, in * kh * kw).

    The vectors are kept as a product, ``u = left @ turn_left`` and ``v = turn_right @ right``, so that a truncation
    forms only those it keeps; a turn of None is the identity.
    """

    left: Tensor
    s: Tensor
    right: Tensor
    shape: tuple[int, ...]
    turn_left: Tensor | None = None
    turn_right: Tensor | None = None

    @property
    def u(self) -> Tensor:
        """The left singular vectors as columns."""
        return self._left(len(self.s))

    @property
    def v(self) -> Tensor:
        """The right singular vectors as rows."""
        return self._right(len(self.s))

    def truncated(self, rank: int) -> LowRank:
        """The first ``rank`` components in float32, each singular value's root on both sides (least fp16 rounding)."""
        root = self.s[:rank].sqrt()
        up, down = self._left(rank) * root, self._right(rank) * root[:, None]
        return LowRank(up.float(), down.float(), self.shape)

    def lost2(self, rank: int) -> float:
        """Sum of the squared singular values after the first ``rank``."""
        return float((self.s[rank:] ** 2).sum())

    def _left(self, count: int) -> Tensor:
        return self.left[:, :count] if self.turn_left is None else self.left @ self.turn_left[:, :count]

    def _right(self, count: int) -> Tensor:
        return self.right[:count] if self.turn_right is None else self.turn_right[:count] @ self.right


def spectrum(delta: Delta) -> Spectrum:
    """The exact SVD of a difference.

    Two thin QRs leave a small core whose SVD is the whole matrix's; the (out, in) matrix is never formed. A QR's
    triangle comes from a Cholesky factorisation of the Gram matrix where the factor is far from singular, which is
    several times quicker and loses nothing that float32 could show.

    Args:
        delta: low-rank factors of any float dtype, or a full difference.
    """
    if not isinstance(delta, LowRank):
        u, s, v = torch.linalg.svd(delta.dense().reshape(delta.shape[0], -1), full_matrices=False)
        return Spectrum(u, s, v, delta.shape)
    left, left_core, undo_left = _orthogonal(delta.up.double())
    right, right_core, undo_right = _orthogonal(delta.down.double().T)
    u, s, v = torch.linalg.svd(left_core @ right_core.T, full_matrices=False)
    turn_left = u if undo_left is None else torch.linalg.solve_triangular(undo_left, u, upper=True)
    turn_right = v if undo_right is None else torch.linalg.solve_triangular(undo_right, v.T, upper=True).T
    return Spectrum(left, s, right.T, delta.shape, turn_left, turn_right)


def _orthogonal(factor: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """``(basis, core, undo)`` with ``factor = (basis @ undo^-1) @ core``, the bracket's columns orthonormal.

    Either a QR (``undo`` is None), or the factor itself with ``undo = core`` from a Cholesky factorisation.
    """
    if factor.shape[0] >= factor.shape[1]:
        lengths = torch.linalg.vector_norm(factor, dim=0)
        if bool((lengths > 0).all()):
            unit = factor / lengths
            lower, failed = torch.linalg.cholesky_ex(unit.T @ unit)
            diagonal = lower.diagonal()
            if not int(failed) and float(diagonal.min()) > _FAR * float(diagonal.max()):
                return unit, lower.T * lengths, lower.T
    basis, core = torch.linalg.qr(factor)
    return basis, core, None


def choose(values: Tensor, rule: RankRule, columns: int) -> int:
    """The rank, at least 1, that ``rule`` takes of singular values ``values`` (n,); ``columns`` is max(out, in).

    Raises:
        RankError: for a size, which no single module can meet.
    """
    energy = values**2
    total = float(energy.sum())
    match rule:
        case Exact():
            floor = float(values[0]) * columns * torch.finfo(torch.float64).eps
            wanted = int((values > floor).sum())
        case Fixed():
            wanted = _at_least_one(rule.rank)
        case Error():
            tails = energy.flip(0).cumsum(0).flip(0)  # tails[k] is what keeping k components loses
            wanted = int((tails > rule.relative**2 * total).sum())
        case Energy():
            wanted = int((energy.cumsum(0) < rule.keep * total).sum()) + 1
        case Size():
            raise RankError("size= is a budget for a whole file; a single module needs a rank, error= or energy=")
    return max(1, min(wanted, len(values)))


def allocate(values: Mapping[str, Tensor], costs: Mapping[str, int], budget: int) -> dict[str, int]:
    """Ranks, at least 1 each, that keep the most energy in ``budget`` bytes: greedy by sigma^2 per byte, pooled.

    Args:
        values: singular values of every module, falling.
        costs: bytes that one more rank of the module takes.
        budget: bytes for all factors together.
    Raises:
        RankError: if the budget does not even hold rank 1.
    """
    left = budget - sum(costs.values())
    if left < 0:
        raise RankError(f"the size is {-left} bytes too small for rank 1 in every module; ask for more")
    names = list(values)
    gain = torch.cat([values[name][1:] ** 2 / costs[name] for name in names])
    owner = torch.cat([torch.full((len(values[name]) - 1,), i) for i, name in enumerate(names)])
    cost = torch.tensor([costs[name] for name in names])
    order = torch.argsort(gain, descending=True, stable=True)
    order = order[gain[order] > 0]
    taken = order[cost[owner[order]].cumsum(0) <= left]
    counts = torch.bincount(owner[taken].long(), minlength=len(names))
    return {name: 1 + int(counts[i]) for i, name in enumerate(names)}


def _at_least_one(rank: int) -> int:
    if rank < 1:
        raise RankError(f"rank {rank} makes no sense; the smallest rank is 1")
    return rank


def _fraction(text: str, key: str, value: str) -> RankRule:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if key == "error" and 0 <= number < 1:
        return Error(number)
    if key == "energy" and 0 < number <= 1:
        return Energy(number)
    raise RankError(f"rank '{text}' is out of range; {key} is a fraction, such as error=0.01 or energy=0.999")


def _size(text: str, value: str) -> Size:
    match = re.fullmatch(r"(\d{1,15}(?:\.\d{1,9})?)\s*([kmg]?i?b?)", value)
    unit = match[2].upper() if match else ""
    unit = f"{unit}B" if unit in ("K", "M", "G", "KI", "MI", "GI") else unit
    if match is None or unit not in _UNITS or float(match[1]) <= 0:
        raise RankError(f"rank '{text}' is not understood; a size is a number with a unit, such as size=36MiB")
    return Size(int(float(match[1]) * _UNITS[unit]))
