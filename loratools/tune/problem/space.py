"""What a search moves: the block weights of one LoRA in a stack, and the amount of the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from loratools.adapter.files.file import Adapter
from loratools.blocks.scheme import Scheme, full_scheme, numbered_scheme, shortest_scheme, sorted_blocks
from loratools.blocks.vector import BlockVector
from loratools.errors import BlockError
from loratools.ops.merging.combine import Combined, combine
from loratools.ops.merging.terms import Term
from loratools.preview.plan.jobs import Stack
from loratools.preview.plan.vector_stacks import BlockWeights, vector_stacks
from loratools.tune.arrays import Array

HIGHEST = 1.4  # a block weight that is still tried
AMOUNT = "amount"  # the dimension by which the second term's weight is multiplied


@dataclass(frozen=True)
class Dimension:
    """One number of a vector: ``name`` is a block, or :data:`AMOUNT`; it goes from ``low`` to ``high``."""

    name: str
    start: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Space:
    """The points of a search, in the order of ``dimensions``, and what they mean for a stack of LoRAs.

    Attributes:
        terms: the stack as it was given.
        tuned: index of the term whose block weights are searched.
        subtracted: index of the term whose amount is searched, if it is.
    """

    terms: tuple[Term, ...]
    tuned: int
    dimensions: tuple[Dimension, ...]
    subtracted: int | None
    summed: Combined

    @staticmethod
    def of(terms: Sequence[Term], *, amount: bool = False) -> Space:
        """The space of the first term with a positive weight: one number for each block that its file has.

        Args:
            amount: search the amount of the first term with a negative weight as well.
        Raises:
            BlockError: if no term has a positive weight, the file is in no block, its vector holds rules for parts of
                blocks, or there is no term whose amount could be searched.
        """
        tuned = next((n for n, term in enumerate(terms) if term.weight > 0), None)
        if tuned is None:
            raise BlockError("nothing here has a positive weight, so there is no LoRA whose blocks could be tuned")
        subtracted = next((n for n, term in enumerate(terms) if term.weight < 0), None) if amount else None
        if amount and subtracted is None:
            raise BlockError(
                "there is no second LoRA that is subtracted, whose amount could be searched; drop `amount=True`, or "
                "give a stack such as style:1:GP1,base_style:-1:GP2"
            )
        term = terms[tuned]
        if term.vector is not None and term.vector.rules:
            raise BlockError(
                f"the vector of {term.label or term.adapter.path.name} has rules for parts of blocks "
                f"({term.vector.rules[0].text()}), which a search over whole blocks would not keep; give it without"
            )
        dimensions = [_dimension(block, term) for block in blocks_of(term.adapter)]
        if not dimensions:
            raise BlockError(
                f"{term.adapter.path} changes no block that its model family has; there is nothing to tune"
            )
        if subtracted is not None:
            dimensions.append(Dimension(AMOUNT, 1.0, 0.0, 2.0))
        bare = [replace(own, vector=None, missing=None) if n == tuned else own for n, own in enumerate(terms)]
        return Space(tuple(terms), tuned, tuple(dimensions), subtracted, combine(bare))

    @property
    def names(self) -> tuple[str, ...]:
        """The dimensions' names."""
        return tuple(one.name for one in self.dimensions)

    @property
    def start(self) -> Array:
        """The point that is the stack as it was given."""
        return np.array([one.start for one in self.dimensions])

    @property
    def low(self) -> Array:
        """The least value of each dimension."""
        return np.array([one.low for one in self.dimensions])

    @property
    def high(self) -> Array:
        """The greatest value of each dimension."""
        return np.array([one.high for one in self.dimensions])

    def at_strength(self, strength: float) -> Array:
        """The point of plain strength: every block times ``strength``, and the amount with it."""
        return self.start * strength

    def vector(self, point: Array) -> dict[str, float]:
        """The tuned LoRA's block weights at ``point``."""
        return {name: float(value) for name, value in zip(self.names, point, strict=True) if name != AMOUNT}

    def amount(self, point: Array) -> float | None:
        """What the second term's weight is multiplied by, if that is searched."""
        return float(point[-1]) if self.subtracted is not None else None

    def stacks(self, points: Sequence[Array]) -> list[Stack]:
        """What is drawn for each point."""
        return vector_stacks(self.summed, [self._weights(point) for point in points])

    def terms_at(self, point: Array) -> list[Term]:
        """The stack at ``point``, to be merged: the tuned term has the new vector."""
        amount, weights = self.amount(point), self.vector(point)
        terms = list(self.terms)
        adapter = terms[self.tuned].adapter
        vector = BlockVector(_scheme(adapter), weights)
        terms[self.tuned] = replace(terms[self.tuned], vector=vector, missing=1.0, inline=True)
        if self.subtracted is not None and amount is not None:
            other = terms[self.subtracted]
            terms[self.subtracted] = replace(other, weight=other.weight * amount)
        return terms

    def _weights(self, point: Array) -> list[BlockWeights]:
        """The factors by block that each term of :attr:`summed` gets."""
        amount = self.amount(point)
        factors: list[BlockWeights] = [{} for _ in self.terms]
        factors[self.tuned] = self.vector(point)
        if self.subtracted is not None and amount is not None:
            factors[self.subtracted] = dict.fromkeys(blocks_of(self.terms[self.subtracted].adapter), amount)
        return factors


def blocks_of(adapter: Adapter) -> tuple[str, ...]:
    """The blocks that a file has modules in, in its family's order."""
    scheme = full_scheme(adapter.family)
    present = {block for name in adapter if (block := scheme.block_of(name)) is not None}
    return sorted_blocks(scheme, present)


def as_vector(adapter: Adapter, weights: Mapping[str, float]) -> BlockVector:
    """Block weights as a vector of the shortest scheme that has all of the file's blocks, with 1 where none is given:
    the seventeen numbers of a plain SD1 LoRA, the twenty-six of a LoCon."""
    scheme = _scheme(adapter)
    return BlockVector(scheme, {name: weights.get(name, 1.0) for name in scheme.names or weights})


def _scheme(adapter: Adapter) -> Scheme:
    scheme = shortest_scheme(adapter.family, tuple(adapter))
    return scheme if scheme.names else numbered_scheme(adapter)


def _dimension(block: str, term: Term) -> Dimension:
    own = term.vector.weights.get(block) if term.vector is not None else 1.0
    start = term.missing if own is None else own
    start = 1.0 if start is None else float(start)
    return Dimension(block, start, min(0.0, start), max(HIGHEST, start))
