"""When a picture is a copy of a training picture: two tests on the cosine to the nearest one.

- It is closer than 95 % of the training pictures are to their own nearest neighbour.
- And the LoRA brought it there: its distance is at most half of the distance from the base's picture (same prompt and
  seed) to the training picture nearest to that. The first test alone would mark pictures that are alike anyhow, such as
  two sunsets. Without a base's picture the second test is a cosine of at least 0.71, half of a picture's variance.
"""

from __future__ import annotations

import torch
from torch import Tensor

_HALF = 0.5**0.5  # a cosine: half of a picture's variance is another's
_BROUGHT = 0.5  # of the base's distance to the nearest training image
_USUAL = 0.95  # of training images are no nearer to each other than this quantile


def is_copy(near: float, before: float | None, usual: float | None) -> bool:
    """Whether a picture at cosine ``near`` to its nearest training image may copy it; its base stood at ``before``.

    Args:
        usual: of :func:`usual_nearest`; where it is None, nothing is marked.
    """
    if usual is None:
        return False
    return near > max(usual, _HALF if before is None else 1 - _BROUGHT * (1 - before))


def usual_nearest(vectors: Tensor) -> float | None:
    """The cosine that 95 % of the vectors (n, d) stay below to their nearest neighbour; None for fewer than three."""
    if len(vectors) < 3:
        return None
    among = vectors @ vectors.T
    among.fill_diagonal_(-1)
    return float(torch.quantile(among.amax(1), _USUAL))
