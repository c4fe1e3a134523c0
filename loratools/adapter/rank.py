"""Rank rules, and the best approximation that a rule allows: QR of the factors, SVD of the small core, in float64."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from loratools.adapter.lowrank import Delta, LowRank, limit
from loratools.errors import RankError

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


@dataclass(frozen=True)
class Compressed:
    """The approximation and its relative Frobenius error ``|d - d_k| / |d|``; 0 for a zero ``d``."""

    delta: LowRank
    error: float


@dataclass(frozen=True, eq=False)
class Spectrum:
    """A thin SVD ``u * s @ v`` in float64: ``u`` (out, n), ``s`` (n,) falling, ``v`` (n, in * kh * kw)."""

    u: Tensor
    s: Tensor
    v: Tensor
    shape: tuple[int, ...]

    def truncated(self, rank: int) -> LowRank:
        """The first ``rank`` components in float32, each singular value's root on both sides (least fp16 rounding)."""
        root = self.s[:rank].sqrt()
        up, down = self.u[:, :rank] * root, self.v[:rank] * root[:, None]
        return LowRank(up.float(), down.float(), self.shape)

    def lost2(self, rank: int) -> float:
        """Sum of the squared singular values after the first ``rank``."""
        return float((self.s[rank:] ** 2).sum())


def spectrum(delta: Delta) -> Spectrum:
    """The exact SVD of a difference.

    Two thin QRs leave a small core whose SVD is the whole matrix's; the (out, in) matrix is never formed.

    Args:
        delta: low-rank factors of any float dtype, or a full difference.
    """
    if not isinstance(delta, LowRank):
        u, s, v = torch.linalg.svd(delta.dense().reshape(delta.shape[0], -1), full_matrices=False)
        return Spectrum(u, s, v, delta.shape)
    left, left_core = torch.linalg.qr(delta.up.double())
    right, right_core = torch.linalg.qr(delta.down.double().T)
    u, s, v = torch.linalg.svd(left_core @ right_core.T, full_matrices=False)
    return Spectrum(left @ u, s, v @ right.T, delta.shape)


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


def compress(delta: LowRank, rule: RankRule) -> Compressed:
    """The best approximation of ``delta`` of the rank that ``rule`` allows (Eckart-Young).

    The singular values are shared evenly between ``up`` and ``down``, which keeps fp16 rounding smallest.

    Args:
        delta: factors ``up`` (out, r) and ``down`` (r, in * kh * kw), any float dtype; computed in float64.
    Returns:
        The new factors in float32 and the relative Frobenius error of having dropped the rest.
    Raises:
        RankError: if ``rule`` asks for a rank below 1, or above min(out, in * kh * kw).
    """
    highest = limit(delta.shape)
    if isinstance(rule, Fixed) and rule.rank > highest:
        raise RankError(f"rank {rule.rank} is above the {highest} that a {delta.shape} module can have")
    found = spectrum(delta)
    rank = choose(found.s, rule, max(delta.shape[0], math.prod(delta.shape[1:])))
    total, lost = found.lost2(0), found.lost2(rank)
    return Compressed(found.truncated(rank), math.sqrt(lost / total) if total else 0.0)


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
