"""What a block vector does to a LoRA's norm, block by block."""

from __future__ import annotations

import math

from loratools.adapter.files.file import Adapter
from loratools.adapter.parallel import in_order
from loratools.blocks.explain import BlockShare
from loratools.blocks.scheme import NO_BLOCK, full_scheme
from loratools.blocks.vector import BlockVector
from loratools.ops.merging.terms import Term


def parts_of(
    adapter: Adapter, vector: BlockVector, missing: float | None = None, *, te: float = 1.0, unet: float = 1.0
) -> dict[str, BlockShare]:
    """Each block's modules, and its share of the sum of squared norms before and after ``vector``.

    Args:
        missing: the weight of blocks that the vector does not list; None leaves them as they are, for the picture's
            sake: a merge would refuse.
        te, unet: strengths of the text encoder and of all else, on top of the vector.
    Raises:
        BlockError: if the vector is of another family.
    """
    return weigh_blocks(adapter, vector, missing, te=te, unet=unet)[0]


def weigh_blocks(
    adapter: Adapter, vector: BlockVector, missing: float | None = None, *, te: float = 1.0, unet: float = 1.0
) -> tuple[dict[str, BlockShare], float]:
    """As :func:`parts_of`, and beside it the part of the LoRA's norm that is left: 1 is all of it."""
    vector_term = Term(adapter, 1.0, vector, te, unet, missing=1.0 if missing is None else missing)
    scheme = full_scheme(adapter.family)
    groups: dict[str, list[tuple[float, float]]] = {name: [] for name in scheme.names}

    def measure(name: str) -> tuple[str, float]:
        return name, adapter[name].norm() ** 2

    for name, square in in_order(measure, adapter):
        block = scheme.block_of(name) or NO_BLOCK
        groups.setdefault(block, []).append((square, square * vector_term.strength(name) ** 2))
    before = sum(a for group in groups.values() for a, _ in group) or 1.0
    after = sum(b for group in groups.values() for _, b in group)
    shares = {
        name: BlockShare(len(group), sum(a for a, _ in group) / before, sum(b for _, b in group) / (after or 1.0))
        for name, group in groups.items()
        if group
    }
    whole = sum(a for group in groups.values() for a, _ in group)
    return shares, math.sqrt(after / whole) if whole else 0.0
