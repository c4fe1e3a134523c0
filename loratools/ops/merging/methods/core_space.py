"""Differences in their core space, where a method keeps the rank and does not depend on how factors are written.

Methods that work entry by entry destroy the low rank of whole matrices, and on factors they depend on the gauge. In the
core space (Panariello et al., 2509.17786) every difference is a small matrix ``M_i = U^T d_i V`` in common orthonormal
bases, and nothing is lost; what turns with the bases (singular values and vectors) is there what it is outside.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from loratools.adapter.algebra.lowrank import Delta, Dense, Vector, limit
from loratools.adapter.algebra.rank import Exact, RankRule, Spectrum, choose, spectrum
from loratools.ops.merging.combine import Combined, combine
from loratools.ops.merging.lazy_result import Decomposed, LazyResult
from loratools.ops.merging.terms import Term

_SPANNED = 1e-10  # of the largest singular value: under it, a direction is another's copy

Draws = Sequence[str]  # one text for each matrix: what random numbers of its module and term are seeded by
Formula = Callable[[Sequence[Tensor], Draws], Tensor]


@dataclass(frozen=True)
class CoreMethod:
    """A merge method as formulas over matrices of one shape, each with its term's strength multiplied in.

    Args:
        matrices: of the core matrices (or, with ``left_only``, of ``U^T d_i``) the merged one.
        vectors: of biases and norms, as one column each.
        left_only: whether the input side keeps its own coordinates.
    """

    matrices: Formula
    vectors: Formula
    left_only: bool = False


class CoreMerge(LazyResult):
    """What a method makes of weighted terms, lazily by module.

    Modules whose sum is a full difference stay full; biases and norms, which have no core, are merged as they are.

    Raises:
        LoratoolsError: of the kinds that :func:`~loratools.ops.merging.combine.combine` names.
    """

    def __init__(self, terms: Sequence[Term], method: CoreMethod) -> None:
        self._sum: Combined = combine(terms)
        self._method = method
        self.family = self._sum.family
        self.shapes = self._sum.shapes
        self.dense = self._sum.dense
        self.ranks = {name: self._rank(name) for name in self.shapes}

    def __getitem__(self, name: str) -> Delta:
        parts, shape = self._sum.parts(name), self.shapes[name]
        if not parts:
            return self._sum[name]
        if len(shape) == 1:
            columns = [strength * term.adapter.delta(name, torch.float64).dense()[:, None] for term, strength in parts]
            return Vector(self._method.vectors(columns, self._draws(name)).flatten().float())
        whole = self._merged(name)
        if name in self.dense:
            return Dense(((whole.u * whole.s) @ whole.v).float().reshape(shape))
        return whole.truncated(len(whole.s)).padded(self.ranks[name])

    def changes(self, name: str) -> bool:
        """Whether a term's strength is not 0 there."""
        return self._sum.changes(name)

    def decompose(self, name: str, rule: RankRule) -> Decomposed:
        """The SVD of one module in float64, which the method ends with anyway."""
        if not self._sum.parts(name) or len(self.shapes[name]) == 1:
            return super().decompose(name, rule)
        whole = self._merged(name)
        return Decomposed(whole, whole.lost2(0), whole.lost2(0))

    def _merged(self, name: str) -> Spectrum:
        known = [
            (strength, _own_directions(spectrum(term.adapter.delta(name, torch.float64))))
            for term, strength in self._sum.parts(name)
        ]
        left = _basis(torch.cat([one.u * one.s.sqrt() for _, one in known], 1))
        halves = [strength * (left.T @ one.u * one.s) for strength, one in known]
        if self._method.left_only:
            matrices = [half @ one.v for half, (_, one) in zip(halves, known, strict=True)]
            u, s, v = torch.linalg.svd(self._method.matrices(matrices, self._draws(name)), full_matrices=False)
            return Spectrum(left @ u, s, v, self.shapes[name])
        right = _basis(torch.cat([(one.v * one.s.sqrt()[:, None]).T for _, one in known], 1))
        matrices = [half @ (one.v @ right) for half, (_, one) in zip(halves, known, strict=True)]
        u, s, v = torch.linalg.svd(self._method.matrices(matrices, self._draws(name)), full_matrices=False)
        return Spectrum(left @ u, s, v @ right.T, self.shapes[name])

    def _draws(self, name: str) -> Draws:
        """One text for each term of a module, which stays the same when other terms are switched off there."""
        places = {id(term): place for place, term in enumerate(self._sum.terms)}
        return [f"{name}\n{places[id(term)]}" for term, _ in self._sum.parts(name)]

    def _rank(self, name: str) -> int:
        highest = limit(self.shapes[name])
        if name in self.dense:
            return highest
        return min(highest, sum(min(term.adapter.ranks[name], highest) for term, _ in self._sum.parts(name)) or 1)


def _own_directions(whole: Spectrum) -> Spectrum:
    """Without singular values of 0, which files padded to one rank have: empty directions would count as entries."""
    rank = choose(whole.s, Exact(), max(whole.u.shape[0], whole.v.shape[1]))
    return Spectrum(whole.u[:, :rank], whole.s[:rank], whole.v[:rank], whole.shape)


def _basis(stacked: Tensor) -> Tensor:
    """The left singular vectors of all inputs' canonical factors side by side: the same however they were written."""
    u, s, _ = torch.linalg.svd(stacked, full_matrices=False)
    basis: Tensor = u[:, : max(int((s > _SPANNED * s[0]).sum()), 1)]
    return basis
