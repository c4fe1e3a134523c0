"""Relative errors from sums of squares, without torch: reports of finished work need no tensors."""

from __future__ import annotations

import math


def relative_error(error2: float, reference2: float) -> float:
    """``sqrt(error2 / reference2)``; of a zero request 0 if the result is 0, else infinite."""
    if reference2 == 0:
        return 0.0 if error2 == 0 else math.inf
    return math.sqrt(error2 / reference2)
