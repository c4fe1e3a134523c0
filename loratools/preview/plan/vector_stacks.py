"""One or several LoRAs under many block vectors, as stacks that share the LoRAs' factors: what a search draws."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace

from loratools.blocks.elements import is_rule
from loratools.blocks.scheme import full_scheme
from loratools.blocks.vector import vector_of
from loratools.errors import BlockError
from loratools.ops.merging.combine import Combined, combine
from loratools.ops.merging.terms import Term
from loratools.preview.plan.jobs import Stack, content_keys_of

BlockWeights = Mapping[str, float]
"""Block name, or a rule for parts of blocks such as ``OUT05/attn1`` -> weight; ``BASE`` is the text encoder's, and
blocks that are absent take 1."""


def vector_stacks(
    terms: Sequence[Term] | Combined, vectors: Sequence[BlockWeights | Sequence[BlockWeights]]
) -> list[Stack]:
    """A stack for each of ``vectors``: the sum that a merge would write, with one more factor for each block.

    Every stack is a :class:`~loratools.ops.merging.combine.Combined` of the same adapters. Its content keys tell going
    from one to the next which modules change.

    Args:
        terms: the LoRAs with their weights and vectors, or their sum.
        vectors: of each stack, the factors by block that all terms get on top of their own weight and vector; or one
            such mapping for every term, where terms get different ones. An empty mapping leaves a term as it is.
    Raises:
        BlockError: for a block that a term's family lacks, a factor that is not finite, mappings that are not one for
            each term, or rules for a term that has a vector already.
        MergeStringError, FormatError, ShapeError: as :func:`~loratools.ops.merging.combine.combine`.
    """
    whole = terms if isinstance(terms, Combined) else combine(terms)
    return [_stack(whole, vector, number) for number, vector in enumerate(vectors, start=1)]


def reweighed(whole: Combined, weights: Sequence[BlockWeights]) -> Combined:
    """The sum ``whole`` with one more factor for each block of each of its terms, as :func:`vector_stacks` has it."""
    return whole.reweighted([_weighed(term, own) for term, own in zip(whole.terms, weights, strict=True)])


def _stack(whole: Combined, vector: BlockWeights | Sequence[BlockWeights], number: int) -> Stack:
    own = [vector] * len(whole.terms) if isinstance(vector, Mapping) else list(vector)
    if len(own) != len(whole.terms):
        raise BlockError(
            f"vector {number} of the stacks has block weights for {len(own)} LoRAs, but there are "
            f"{len(whole.terms)}; give one mapping for all of them, or one for each"
        )
    deltas = reweighed(whole, own)
    content_keys = content_keys_of(deltas) or {}
    return Stack(deltas, 1.0, _digest(content_keys), content_keys)


def _weighed(term: Term, weights: BlockWeights) -> Term:
    """``term`` with its blocks' weights multiplied by ``weights``: as its vector where it has none, so that the numbers
    are those of a merge string with that vector; else as factors beside its own vector, which may hold rules."""
    scheme = full_scheme(term.adapter.family)
    named = {block if is_rule(block) else scheme.block_name(block): float(weight) for block, weight in weights.items()}
    if unfit := [block for block, weight in named.items() if not math.isfinite(weight)]:
        raise BlockError(f"the weight of block {unfit[0]} is {named[unfit[0]]}; block weights are finite numbers")
    if term.vector is None and not term.scales:
        return replace(term, vector=vector_of(scheme, named), missing=1.0) if named else term
    if rules := [name for name in named if is_rule(name)]:
        name = term.label or term.adapter.path.name
        raise BlockError(
            f"{name} has a vector already, beside which a rule for parts of blocks ({rules[0]}) says nothing"
        )
    scales = {block: term.scales.get(block, 1.0) * named.get(block, 1.0) for block in {**term.scales, **named}}
    return replace(term, scales=scales)


def _digest(content_keys: Mapping[str, Hashable]) -> str:
    """sha256 over every module's key: files by digest, and their strengths there."""
    return hashlib.sha256(repr(sorted(content_keys.items())).encode()).hexdigest()
