"""THE definition of strength, block vector and alpha: the exact weighted sum of adapters, lazily by module.

Merges, plans and previews all use it, so that a preview shows what the merge will be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import torch

from loratools.adapter.algebra.factor_sum import FactorSum, Summand
from loratools.adapter.algebra.lowrank import Delta, Dense, LowRank, concatenate, finite, limit, same_matrix, zero
from loratools.adapter.algebra.rank import RankRule, spectrum
from loratools.adapter.architectures.names import family_of
from loratools.adapter.files.file import Adapter
from loratools.errors import FormatError, MergeStringError, NonFiniteError, ShapeError
from loratools.ops.merging.lazy_result import Decomposed, LazyResult, norm2_of
from loratools.ops.merging.one_model import check_models
from loratools.ops.merging.one_spelling import check_spelling, one_spelling
from loratools.ops.merging.terms import Term


class Combined(LazyResult):
    """The exact weighted sum of terms, lazily by module, in float32; names sorted.

    Attributes:
        terms: the summands.
        family: their common family.
        shapes, ranks: of every module's sum, known without reading factors.
        dense: modules whose sum is not low-rank.
    """

    def __init__(self, terms: Sequence[Term]) -> None:
        self.terms = tuple(terms)
        self.family = terms[0].adapter.family
        self.shapes = _common_shapes(terms)
        self._strengths = {name: self._strength(name) for name in self.shapes}
        self.ranks = {name: self._rank(name) for name in self.shapes}

    def __getitem__(self, name: str) -> Delta:
        return self.delta(name)

    def delta(self, name: str, dtype: torch.dtype = torch.float32) -> Delta:
        """The sum for one module, computed in ``dtype``; terms of strength 0 are not read."""
        parts = self.parts(name)
        if not parts:
            return zero(self.shapes[name], dtype)
        total = concatenate([(strength, term.adapter.delta(name, dtype)) for term, strength in parts])
        return _seen_as(total, self.shapes[name])

    def reweighted(self, terms: Sequence[Term]) -> Combined:
        """The sum of the same adapters under other weights and vectors; no file is opened or compared again.

        Args:
            terms: :attr:`terms`, in their order, with anything but the adapter changed.
        Raises:
            BlockError: if a short vector leaves modules open.
        """
        if [id(term.adapter) for term in terms] != [id(term.adapter) for term in self.terms]:
            raise ValueError("reweighted() takes the same adapters in the same order; combine() others anew")
        return Combined(terms)

    def parts(self, name: str) -> tuple[tuple[Term, float], ...]:
        """The terms that change a module, each with its strength."""
        return self._strengths[name]

    def factor_sum(self, name: str) -> FactorSum | None:
        """The terms' own factors and strengths; None where a full difference is among them, or nothing at all."""
        summands = self.summands(name)
        return FactorSum(summands) if summands and name not in self.dense else None

    def summands(self, name: str) -> tuple[Summand, ...]:
        """:attr:`parts` without what only a merge has to know."""
        return tuple(Summand(term.adapter.digest, strength, term.adapter) for term, strength in self.parts(name))

    def changes(self, name: str) -> bool:
        """Whether a term's strength is not 0 there."""
        return bool(self._strengths[name])

    def norms2(self, name: str, delta: Delta) -> tuple[float, float]:
        """``|asked|^2`` and ``sum |w d|^2``: all of one Gram matrix, and its diagonal blocks."""
        if not isinstance(delta, LowRank) or name in self.dense:
            root2 = sum(strength**2 * norm2_of(term.adapter[name]) for term, strength in self.parts(name))
            return norm2_of(delta), root2
        products = delta.grams[0] * delta.grams[1]
        if not finite(products):
            raise NonFiniteError(f"module {name} is not finite once its weights are applied; use smaller weights")
        sizes = [term.adapter.ranks[name] for term, _ in self.parts(name)] or [delta.rank]
        root2, start = 0.0, 0
        for size in sizes:
            root2 += float(products[start : start + size, start : start + size].sum())
            start += size
        return max(float(products.sum()), 0.0), max(root2, 0.0)

    def decompose(self, name: str, rule: RankRule) -> Decomposed:
        """The SVD of one module's sum, folded in float64: float32's rounding would look like more rank."""
        delta = self.delta(name, torch.float64)
        whole = spectrum(delta)
        return Decomposed(whole, whole.lost2(0), self.norms2(name, delta)[1])

    @cached_property
    def dense(self) -> frozenset[str]:  # type: ignore[override]
        """Modules whose sum holds a full difference."""
        return frozenset(n for n in self.shapes if any(n in term.adapter.dense for term, _ in self._strengths[n]))

    def _strength(self, name: str) -> tuple[tuple[Term, float], ...]:
        strengths = ((term, term.strength(name)) for term in self.terms if name in term.adapter)
        return tuple((term, strength) for term, strength in strengths if strength != 0)

    def _rank(self, name: str) -> int:
        if name in self.dense:
            return limit(self.shapes[name])
        return sum(term.adapter.ranks[name] for term, _ in self._strengths[name]) or 1


def combine(terms: Sequence[Term]) -> Combined:
    """The exact weighted sum ``sum_i weight_i * vector_i * delta_i`` as a lazy mapping of modules.

    Modules of a model that no table knows have the names that the first term's file gives them.

    Raises:
        MergeStringError: if there are no terms.
        FormatError: if they are LoRAs of different model families, or of different models that no table knows.
        ShapeError: if two of them disagree over a module's shape.
        BlockError: if a short vector leaves modules open.
    """
    if not terms:
        raise MergeStringError("a merge needs at least one LoRA, such as style:1:GP1")
    first = terms[0]
    check_models([term.adapter for term in terms])
    for term in terms:
        if term.adapter.family != first.adapter.family:
            raise FormatError(
                f"{first.adapter.path} is for {family_of(first.adapter.family).title} and {term.adapter.path} for "
                f"{family_of(term.adapter.family).title}; LoRAs of different model families cannot be merged"
            )
        term.check()
    adapters = one_spelling([term.adapter for term in terms])
    for term, adapter in zip(terms, adapters, strict=True):
        check_spelling(adapters[0], term.adapter, adapter)
    return Combined([replace(term, adapter=adapter) for term, adapter in zip(terms, adapters, strict=True)])


def _common_shapes(terms: Sequence[Term]) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    owner: dict[str, Adapter] = {}
    for term in terms:
        for name, shape in term.adapter.shapes.items():
            first = shapes.setdefault(name, shape)
            if not same_matrix(first, shape):
                raise ShapeError(shapes_differ(name, owner[name], first, term.adapter))
            owner.setdefault(name, term.adapter)
    return dict(sorted(shapes.items()))


def shapes_differ(name: str, one: Adapter, shape: tuple[int, ...], other: Adapter) -> str:
    """The message for two files that disagree over a module."""
    return (
        f"module {name} is {shape} in {one.path} and {other.shapes[name]} in {other.path}; they were trained on "
        "different base models and cannot be added"
    )


def _seen_as(delta: Delta, shape: tuple[int, ...]) -> Delta:
    if delta.shape == shape:
        return delta
    if isinstance(delta, LowRank):
        return LowRank(delta.up, delta.down, shape)
    return Dense(delta.value.reshape(shape))
