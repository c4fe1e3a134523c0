"""A module's difference as the sum that it is: files' own factors times strengths, and how a file would round that sum.

Whoever has the factors on a device already then needs nothing more than the strengths for every further sum of them.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from loratools.adapter.algebra.lowrank import Delta, LowRank, balancing


@dataclass(frozen=True, eq=False)
class Summand:
    """``strength`` * ``source[name]``, one summand of the delta of a module ``name``.

    Args:
        key: of the whole source's content: equal keys mean equal numbers under every name.
        source: an adapter, or any other mapping of deltas; read only where its factors are needed.
    """

    key: Hashable
    strength: float
    source: Mapping[str, Delta]

    def rank(self, name: str) -> int | None:
        """The rank of its delta, without reading a factor if the source has ``ranks``; None for a full difference."""
        if name in getattr(self.source, "dense", ()):
            return None
        ranks = getattr(self.source, "ranks", None)
        if ranks is not None:
            return int(ranks[name])
        delta = self.source[name]
        return delta.rank if isinstance(delta, LowRank) else None


@dataclass(frozen=True)
class Rounding:
    """How a file stores factors, and what reading it back makes of them.

    Args:
        dtype: of the stored factors.
        scale: alpha / rank: the stored product is the difference divided by it, and a reader multiplies by it again.
        balanced: whether components are moved by powers of two, away from the dtype's underflow.
    """

    dtype: torch.dtype
    scale: float
    balanced: bool = True

    def read_back(self, up: Tensor, down: Tensor) -> tuple[Tensor, Tensor]:
        """``up`` (..., out, r) and ``down`` (..., r, in) in float32 as a reader gets them from the file, on any device.

        Entries that the dtype cannot hold become infinite.
        """
        up = _times(up, 1 / self.scale)
        if self.balanced:
            shift = balancing(up, down)
            lift, drop = (torch.exp2(each.double()).float() for each in (shift, -shift))  # exact for whole numbers
            up, down = up * lift[..., None, :], down * drop[..., None]
        return _times(up.to(self.dtype).float(), self.scale), down.to(self.dtype).float()


@dataclass(frozen=True, eq=False)
class FactorSum:
    """What one module of a mapping is: low-rank ``summands`` side by side, rounded where a ``rounding`` is given.

    A mapping has it as ``factor_sum(name)``, or None where its numbers are not made of factors alone.
    """

    summands: tuple[Summand, ...]
    rounding: Rounding | None = None


def factor_sum_of(deltas: Mapping[str, Delta], name: str) -> FactorSum | None:
    """What ``deltas[name]`` is the sum of, without reading a factor; None where only the mapping itself knows it."""
    own = getattr(deltas, "factor_sum", None)
    found: FactorSum | None = own(name) if own is not None else None
    return found


def _times(tensor: Tensor, factor: float) -> Tensor:
    """As :meth:`LowRank.scaled` scales ``up``."""
    return tensor if factor == 1 else tensor * factor
