"""What a search moves: the block weights of one LoRA in a stack; if that is wanted, the amount of the LoRA that is
subtracted, and how much of each block comes from an earlier epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from loratools.adapter.files.file import Adapter
from loratools.blocks.elements import is_rule, parse_rule
from loratools.blocks.layer_kinds import layer_kinds, with_fewest_rules
from loratools.blocks.scheme import Scheme, full_scheme, numbered_scheme, shortest_scheme, sorted_blocks
from loratools.blocks.vector import BlockVector, vector_of
from loratools.errors import BlockError
from loratools.ops.merging.combine import Combined, combine
from loratools.ops.merging.terms import Term
from loratools.preview.plan.jobs import Stack
from loratools.preview.plan.vector_stacks import BlockWeights, reweighed, vector_stacks
from loratools.tune.arrays import Array
from loratools.tune.problem.weight_range import NARROW, WeightRange

USUAL = 1.3  # up to which people write block weights, from 0 on; outside of that the report says so
AMOUNT = "amount"  # the dimension by which the second term's weight is multiplied
EARLIER = "earlier "  # begins the names of dimensions that say how much of a block is the earlier epoch's
_SCREENED = (0.5, 1.1)  # what a screening tries: times a block's own weight
_BLENDS = (0.0, 0.6)  # and of the earlier epoch


@dataclass(frozen=True)
class Dimension:
    """One number of a point; it goes from ``low`` to ``high``.

    Attributes:
        name: a block, a rule for a kind of its layers (``OUT05/attn1``), :data:`AMOUNT`, or :data:`EARLIER` and a
            block.
        start: what the stack has as it was given.
    """

    name: str
    start: float
    low: float
    high: float

    @property
    def is_block(self) -> bool:
        """Whether it is the weight of a block, or of a kind of its layers."""
        return self.name != AMOUNT and not self.name.startswith(EARLIER)

    @property
    def block(self) -> str:
        """The block whose weight it is, or whose layers'; its name where it is neither."""
        return self.name.partition("/")[0]

    @property
    def width(self) -> float:
        """What a search's steps are counted in; of a block never more than what people write, however far it may go."""
        own = self.high - self.low
        return min(own, NARROW.highest - NARROW.lowest) if self.is_block else own

    @property
    def screened(self) -> tuple[float, float]:
        """The two values that show what it does."""
        if self.name.startswith(EARLIER):
            return _BLENDS
        own = self.start if abs(self.start) > 0.2 else 1.0
        low, high = (min(max(share * own, self.low), self.high) for share in _SCREENED)
        return low, high


@dataclass(frozen=True, eq=False)
class Space:
    """The points of a search, in the order of ``dimensions``, and what they mean for a stack of LoRAs.

    Attributes:
        terms: the stack as it was given.
        tuned: index of the term whose block weights are searched.
        subtracted: index of the term whose amount is searched, if it is.
        earlier: an earlier epoch of the tuned term's LoRA, of which a part may stand in for each block's own.
    """

    terms: tuple[Term, ...]
    tuned: int
    dimensions: tuple[Dimension, ...]
    subtracted: int | None
    summed: Combined
    earlier: Term | None = None

    @staticmethod
    def of(
        terms: Sequence[Term],
        *,
        amount: bool = False,
        earlier: Term | None = None,
        weights: WeightRange = WeightRange(),  # noqa: B008  (frozen)
        kinds: bool = False,
    ) -> Space:
        """The space of the first term with a positive weight: one number for each block that its file has.

        Args:
            kinds: one number for each kind of layers in a block, where it has several (see
                :mod:`loratools.blocks.layer_kinds`).
            amount: search the amount of the first term with a negative weight as well.
            earlier: an earlier epoch; search as well how much of each block comes from it.
            weights: how far a block's weight may go.
        Raises:
            BlockError: if no term has a positive weight, the file is in no block, its vector holds rules that the
                dimensions would not keep, there is no term whose amount could be searched, or ``kinds`` stands beside
                ``earlier``.
        """
        if kinds and earlier is not None:
            raise BlockError(
                "an earlier epoch is blended in block by block; leave `parts` at blocks, or leave the epoch out"
            )
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
        dimensions = [_dimension(name, start, weights) for name, start in _starts(term, kinds=kinds).items()]
        if not dimensions:
            raise BlockError(
                f"{term.adapter.path} changes no block that its model family has; there is nothing to tune"
            )
        if earlier is not None:
            dimensions += [Dimension(f"{EARLIER}{block}", 0.0, 0.0, 1.0) for block in blocks_of(earlier.adapter)]
        if subtracted is not None:
            dimensions.append(Dimension(AMOUNT, 1.0, 0.0, 2.0))
        bare = [replace(own, vector=None, missing=None) if n == tuned else own for n, own in enumerate(terms)]
        bare += (
            [] if earlier is None else [replace(earlier, weight=term.weight, te=term.te, unet=term.unet, vector=None)]
        )
        return Space(tuple(terms), tuned, tuple(dimensions), subtracted, combine(bare), earlier)

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

    @property
    def width(self) -> Array:
        """What steps along each dimension are counted in."""
        return np.array([one.width for one in self.dimensions])

    def at_strength(self, strength: float) -> Array:
        """The point of plain strength: every block times ``strength``, and the amount with it."""
        return self.start * strength

    def vector(self, point: Array) -> dict[str, float]:
        """The tuned LoRA's weights at ``point``, by block or by rule."""
        return {one.name: float(value) for one, value in zip(self.dimensions, point, strict=True) if one.is_block}

    def shortest(self, point: Array) -> dict[str, float]:
        """The same weights as a person reads and writes them: the blocks' numbers, and rules for what differs from
        them (see :func:`~loratools.blocks.layer_kinds.with_fewest_rules`)."""
        own = self.terms[self.tuned].vector
        return with_fewest_rules(self.vector(point), None if own is None else own.weights)

    def unusual(self, point: Array) -> tuple[str, ...]:
        """Blocks whose weights are outside of what people usually write, and of what they were before."""
        own = zip(self.dimensions, point, strict=True)
        return tuple(
            one.name for one, value in own if one.is_block and not min(0.0, one.start) <= value <= max(USUAL, one.start)
        )

    def blend(self, point: Array) -> dict[str, float]:
        """How much of each block is the earlier epoch's, from 0 to 1; empty where that is not searched."""
        values = zip(self.names, point, strict=True)
        return {name.removeprefix(EARLIER): float(value) for name, value in values if name.startswith(EARLIER)}

    def amount(self, point: Array) -> float | None:
        """What the second term's weight is multiplied by, if that is searched."""
        return float(point[-1]) if self.subtracted is not None else None

    def stacks(self, points: Sequence[Array]) -> list[Stack]:
        """What is drawn for each point."""
        return vector_stacks(self.summed, [self._weights(point) for point in points])

    def linear(self) -> tuple[Combined, list[Combined]]:
        """The sum at the point of zeros, and those at the points that have 1 for one number alone: without an earlier
        epoch, the sum at any point p is the first plus p_i times what each of the others has beyond it."""
        size = len(self.dimensions)
        zero, *units = (reweighed(self.summed, self._weights(point)) for point in (np.zeros(size), *np.eye(size)))
        return zero, units

    def terms_at(self, point: Array) -> list[Term]:
        """The stack at ``point``, to be merged: the tuned term has the new vector."""
        amount, (own, earlier) = self.amount(point), self._shares(point)
        terms = list(self.terms)
        term = terms[self.tuned]
        scheme = _scheme(term.adapter)
        terms[self.tuned] = replace(term, vector=vector_of(scheme, with_fewest_rules(own)), missing=1.0, inline=True)
        if self.earlier is not None and any(earlier.values()):
            vector = BlockVector(scheme, earlier)
            terms.append(
                replace(term, adapter=self.earlier.adapter, label=self.earlier.label, vector=vector, missing=0.0)
            )
        if self.subtracted is not None and amount is not None:
            other = terms[self.subtracted]
            terms[self.subtracted] = replace(other, weight=other.weight * amount)
        return terms

    def _weights(self, point: Array) -> list[BlockWeights]:
        """The factors by block that each term of :attr:`summed` gets."""
        amount = self.amount(point)
        factors: list[BlockWeights] = [{} for _ in self.terms]
        own, earlier = self._shares(point)
        factors[self.tuned] = own
        factors += [] if self.earlier is None else [earlier]
        if self.subtracted is not None and amount is not None:
            factors[self.subtracted] = dict.fromkeys(blocks_of(self.terms[self.subtracted].adapter), amount)
        return factors

    def _shares(self, point: Array) -> tuple[dict[str, float], dict[str, float]]:
        """Each block's weight in the tuned LoRA, and in its earlier epoch."""
        vector, blend = self.vector(point), self.blend(point)
        own = {block: weight * (1 - blend.get(block, 0.0)) for block, weight in vector.items()}
        return own, {block: vector.get(block, 1.0) * part for block, part in blend.items()}


def blocks_of(adapter: Adapter) -> tuple[str, ...]:
    """The blocks that a file has modules in, in its family's order."""
    scheme = full_scheme(adapter.family)
    present = {block for name in adapter if (block := scheme.block_of(name)) is not None}
    return sorted_blocks(scheme, present)


def as_vector(adapter: Adapter, weights: Mapping[str, float]) -> BlockVector:
    """Weights by block and by rule as a vector of the shortest scheme that has all of the file's blocks, with 1 where
    none is given: the seventeen numbers of a plain SD1 LoRA, the twenty-six of a LoCon; and after them the rules."""
    scheme = _scheme(adapter)
    rules = {name: weight for name, weight in weights.items() if is_rule(name)}
    blocks = scheme.names or tuple(name for name in weights if not is_rule(name)) or blocks_of(adapter)
    return vector_of(scheme, {**{name: weights.get(name, 1.0) for name in blocks}, **rules})


def _scheme(adapter: Adapter) -> Scheme:
    scheme = shortest_scheme(adapter.family, tuple(adapter))
    return scheme if scheme.names else numbered_scheme(adapter)


def _starts(term: Term, *, kinds: bool) -> dict[str, float]:
    """Each block, or the rule of each kind of its layers, with the weight that the term's vector gives it.

    Raises:
        BlockError: for a rule that gives layers of one block, or of one kind, different weights.
    """
    scheme, vector = full_scheme(term.adapter.family), term.vector
    parts = layer_kinds(term.adapter, scheme) if kinds else {}
    other = 1.0 if term.missing is None else term.missing
    starts: dict[str, float] = {}
    for block in blocks_of(term.adapter):
        modules = [name for name in term.adapter if scheme.block_of(name) == block]
        weights = {name: other if vector is None else vector.at(block, name) for name in modules}
        for part in parts.get(block, (block,)):
            rule = parse_rule(part, 1.0, scheme) if is_rule(part) else None
            own = {weights[name] for name in modules if rule is None or rule.applies(block, name)}
            if len(own) > 1:
                raise BlockError(_not_kept(term, part, kinds=kinds))
            (start,) = own
            starts[part] = other if start is None else float(start)
    return starts


def _not_kept(term: Term, part: str, *, kinds: bool) -> str:
    name = term.label or term.adapter.path.name
    reason = f"the vector of {name} has rules that give the layers of {part} different weights"
    if kinds:
        return f"{reason}, which a search over kinds of layers would not keep; give it without"
    return f"{reason}, which a search over whole blocks would not keep; leave `parts` out, or give it without"


def _dimension(name: str, start: float, weights: WeightRange) -> Dimension:
    return Dimension(name, start, min(weights.lowest, start), max(weights.highest, start))
