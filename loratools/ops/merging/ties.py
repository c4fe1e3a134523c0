"""TIES merging of low-rank differences in their core space, where it keeps the rank and does not depend on the gauge.

TIES (Yadav et al., 2306.01708) trims, elects signs and averages element by element; on whole matrices that destroys
the low rank, on factors it depends on how they are written. In the core space (Panariello et al., 2509.17786) every
difference is a small matrix ``M_i = U^T d_i V`` in common orthonormal bases, and nothing is lost.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from loratools.adapter.algebra.lowrank import Delta, limit
from loratools.adapter.algebra.rank import Spectrum, spectrum
from loratools.errors import OptionError
from loratools.ops.merging.combine import Combined, combine
from loratools.ops.merging.lazy_result import LazyResult
from loratools.ops.merging.terms import Term


class Ties(LazyResult):
    """The TIES merge of weighted terms, lazily by module.

    Args:
        density: the part of each term's core entries, largest first, that takes part.
    Raises:
        OptionError: if ``density`` is not in (0, 1].
    """

    def __init__(self, terms: Sequence[Term], density: float) -> None:
        if not 0 < density <= 1:
            raise OptionError(f"density {density:g} is out of range; it is a fraction, such as 0.5")
        self._sum: Combined = combine(terms)
        self._density = density
        self.family = self._sum.family
        self.shapes = {name: shape for name, shape in self._sum.shapes.items() if len(shape) > 1}
        self.ranks = {name: self._rank(name) for name in self.shapes}

    def __getitem__(self, name: str) -> Delta:
        parts = self._sum.parts(name)
        shape = self.shapes[name]
        if not parts:
            return self._sum[name]
        known = [(strength, spectrum(term.adapter.delta(name, torch.float64))) for term, strength in parts]
        left = _basis(torch.cat([one.u * one.s.sqrt() for _, one in known], 1))
        right = _basis(torch.cat([(one.v * one.s.sqrt()[:, None]).T for _, one in known], 1))
        merged = ties([strength * _core(one, left, right) for strength, one in known], self._density)
        u, s, v = torch.linalg.svd(merged, full_matrices=False)
        whole = Spectrum(left @ u, s, v @ right.T, shape).truncated(len(s))
        return whole.padded(self.ranks[name])

    def _rank(self, name: str) -> int:
        highest = limit(self.shapes[name])
        return min(highest, sum(min(term.adapter.ranks[name], highest) for term, _ in self._sum.parts(name)) or 1)


def ties(matrices: Sequence[Tensor], density: float) -> Tensor:
    """Trim each matrix to its largest entries, elect a sign for each place, and average what agrees with it.

    Args:
        matrices: task differences of one shape, their weights multiplied in.
    """
    trimmed = torch.stack([_trimmed(matrix, density) for matrix in matrices])
    elected = torch.sign(trimmed.sum(0))
    agreeing = torch.where(torch.sign(trimmed) == elected, trimmed, 0.0)
    return agreeing.sum(0) / (agreeing != 0).sum(0).clamp(min=1)


def _trimmed(matrix: Tensor, density: float) -> Tensor:
    kept = math.ceil(density * matrix.numel())
    if kept >= matrix.numel():
        return matrix
    threshold = matrix.abs().flatten().kthvalue(matrix.numel() - kept + 1).values
    return torch.where(matrix.abs() >= threshold, matrix, 0.0)


def _basis(stacked: Tensor) -> Tensor:
    """The left singular vectors of all inputs' canonical factors side by side: the same however they were written."""
    basis: Tensor = torch.linalg.svd(stacked, full_matrices=False).U
    return basis


def _core(one: Spectrum, left: Tensor, right: Tensor) -> Tensor:
    return (left.T @ one.u * one.s) @ (one.v @ right)
