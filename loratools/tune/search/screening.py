"""What each block does, in few pictures: vectors in which half of the blocks are low and half are high at once.

Every picture then says something of every block. With one block lowered at a time, seventeen blocks would need as many
pictures each as this needs in all for the same standard error (Plackett and Burman 1946).
"""

from __future__ import annotations

import numpy as np

from loratools.tune.arrays import Array
from loratools.tune.problem.space import Space


def screening_points(space: Space, count: int, random: np.random.Generator) -> Array:
    """``count`` vectors (count, d): each block is low in half of them, in an order of its own."""
    columns = []
    for dimension in space.dimensions:
        low, high = dimension.screened
        columns.append(random.permutation(np.where(np.arange(count) < count // 2, low, high)))
    return np.stack(columns, axis=1)
