"""What every operation hands to the writer: a lazy mapping of differences whose layout is known beforehand."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch

from loratools.adapter.algebra.lowrank import Delta, LowRank
from loratools.adapter.algebra.rank import RankRule, Spectrum, choose, spectrum

_NOISE = 1e-14  # of |asked|^2: what float64 leaves of a sum that is complete


@dataclass(frozen=True, eq=False)
class Decomposed:
    """One module's SVD with what it is measured against.

    Attributes:
        spectrum: the singular triplets that are known, all of them or the first ones.
        norm2: ``|asked|^2``, which the known singular values need not add up to.
        root2: ``sum |w d|^2`` of the terms that it was summed from.
    """

    spectrum: Spectrum
    norm2: float
    root2: float

    def lost2(self, rank: int) -> float:
        """``|asked|^2`` less what the first ``rank`` components hold."""
        return self.spectrum.lost2(rank) + self._unknown2()

    def rank(self, rule: RankRule) -> int:
        """The rank that ``rule`` takes, at most as many as are known; the unknown rest counts as one more component."""
        values, unknown2 = self.spectrum.s, self._unknown2()
        if unknown2 > 0:
            values = torch.cat([values, torch.tensor([math.sqrt(unknown2)], dtype=values.dtype)])
        shape = self.spectrum.shape
        return min(choose(values, rule, max(shape[0], math.prod(shape[1:]))), len(self.spectrum.s))

    def _unknown2(self) -> float:
        rest = self.norm2 - self.spectrum.lost2(0)
        return rest if rest > _NOISE * self.norm2 else 0.0


class LazyResult(Mapping[str, Delta]):
    """A lazy mapping: module -> the difference that is asked for, in float32.

    Attributes:
        family: a key of ``names.FAMILIES``.
        shapes: module -> shape, in the order of iteration.
        ranks: module -> columns of its ``up``.
        dense: modules whose difference is a full one.
        costly: whether decomposing a module takes so long that its factors should be kept, not computed again.
    """

    family: str
    shapes: Mapping[str, tuple[int, ...]]
    ranks: Mapping[str, int]
    dense: frozenset[str] = frozenset()
    costly: bool = False

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)

    def changes(self, name: str) -> bool:
        """Whether a module is changed at all; known without reading its factors."""
        return name in self.shapes

    def norms2(self, name: str, delta: Delta) -> tuple[float, float]:
        """``|delta|^2``, and ``sum |w d|^2`` of the terms that it was summed from (the same where it is one thing).

        Args:
            delta: what ``self[name]`` gave, so that it is not computed twice.
        """
        norm2 = norm2_of(delta)
        return norm2, norm2

    def decompose(self, name: str, rule: RankRule) -> Decomposed:
        """The SVD of one module, as far as ``rule`` may need it."""
        delta = self[name]
        whole = spectrum(delta)
        return Decomposed(whole, whole.lost2(0), self.norms2(name, delta)[1])


def norm2_of(delta: Delta) -> float:
    """Squared norm without cancellation: by QR of the factors in float64."""
    if not isinstance(delta, LowRank):
        return delta.norm() ** 2
    left = torch.linalg.qr(delta.up.double(), mode="r").R
    right = torch.linalg.qr(delta.down.double().T, mode="r").R
    return float(((left @ right.T) ** 2).sum())
