"""Bringing LoRAs to equal strength, block by block, before they are weighted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from loratools.adapter.parallel import in_order
from loratools.ops.merging.terms import Term
from loratools.ops.report import grouped


def match_norms(terms: Sequence[Term]) -> list[Term]:
    """``terms`` with factors that give every LoRA the same norm in each block: the geometric mean of theirs.

    Weights and vectors then act on equals. A LoRA that is zero in a block stays zero there and does not count.
    """
    norms = {id(term.adapter): _block_norms(term) for term in terms}
    targets: dict[str, float] = {}
    for block in {block for own in norms.values() for block in own}:
        logs = [math.log(own[block]) for own in norms.values() if own.get(block, 0.0) > 0]
        targets[block] = math.exp(sum(logs) / len(logs)) if logs else 0.0
    return [
        replace(
            term, scales={block: targets[block] / norm for block, norm in norms[id(term.adapter)].items() if norm > 0}
        )
        for term in terms
    ]


def _block_norms(term: Term) -> dict[str, float]:
    adapter = term.adapter
    squares = dict(in_order(lambda name: (name, adapter[name].norm() ** 2), adapter))
    groups = grouped(adapter, adapter.family)
    return {block: math.sqrt(sum(squares[name] for name in names)) for block, names in groups.items()}
