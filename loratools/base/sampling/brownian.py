"""Noise along a Brownian path over the sigmas, for samplers of the reverse SDE: draws over overlapping ways agree.

Ours remembers the path as far as it has been drawn. The WebUI's is torchsde's ``BrownianTree``, whose value at every
sigma is a function of the seed alone: the path between its ends is halved again and again by a Brownian bridge, each
middle drawn from a seed that NumPy's ``SeedSequence`` makes of its position in the tree, down to a millionth.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

_POOL = 24  # words of SeedSequence's pool in torchsde's tree
_DIGITS = 6  # of its sigmas
_CACHED_DEPTH = 9  # halvings whose middles are kept; deeper ones are rarely needed twice


class BrownianPath:
    """A path that is drawn step by step, from the highest sigma down."""

    def __init__(self, draw: Callable[[], Tensor]) -> None:
        self._draw = draw
        self._values: dict[float, Tensor] = {}

    def __call__(self, sigma: float, sigma_next: float) -> Tensor:
        """The increment from ``sigma`` to the lower ``sigma_next``, scaled to unit deviation."""
        for at in (sigma, sigma_next):
            if not self._values:
                self._values[at] = torch.zeros(())
            elif at not in self._values:
                lowest = min(self._values)
                self._values[at] = self._values[lowest] + self._draw() * math.sqrt(lowest - at)
        increment = (self._values[sigma_next] - self._values[sigma]) / math.sqrt(sigma - sigma_next)
        self._values = {at: value for at, value in self._values.items() if at <= sigma}
        return increment


class BrownianTree:
    """torchsde's tree of one seed.

    Args:
        low, high: the sigmas between which it is used.
        draw: a seed -> the normal numbers of a picture's shape that a generator of this seed gives first.
    """

    def __init__(self, seed: int, low: float, high: float, draw: Callable[[int], Tensor]) -> None:
        self._seed, self._draw = seed, draw
        self._low, self._high = round(low, _DIGITS), round(high, _DIGITS)
        self._end = draw(self._node_seed(())) * math.sqrt(high - low)
        self._middles: dict[tuple[int, int], Tensor] = {}
        self._values: dict[float, Tensor] = {}

    def __call__(self, sigma: float, sigma_next: float) -> Tensor:
        """The increment from ``sigma`` to the lower ``sigma_next``, scaled to unit deviation."""
        for at in (sigma, sigma_next):
            if at not in self._values:
                self._values[at] = self._value(at)
        increment = (self._values[sigma_next] - self._values[sigma]) / math.sqrt(sigma - sigma_next)
        self._values = {at: value for at, value in self._values.items() if at <= sigma}
        return increment

    def _value(self, sigma: float) -> Tensor:
        """The path's value at ``sigma``, by halving the interval that holds it."""
        target = min(max(round(sigma, _DIGITS), self._low), self._high)
        low, high, below, above = self._low, self._high, torch.zeros_like(self._end), self._end
        index, depth = 0, 0
        while low < target < high:
            middle = round((low + high) / 2, _DIGITS)
            value = self._middle((index, depth), low, middle, high, below, above)
            right = target >= middle
            low, below, high, above = (middle, value, high, above) if right else (low, below, middle, value)
            index, depth = 2 * index + right, depth + 1
        return below if target == low else above

    def _middle(
        self, node: tuple[int, int], low: float, middle: float, high: float, below: Tensor, above: Tensor
    ) -> Tensor:
        """The bridge's value at ``middle``: the mean of both ends weighted by their nearness, and noise."""
        if node in self._middles:
            return self._middles[node]
        left, right, whole = middle - low, high - middle, high - low
        value = below + (above - below) * (left / whole)
        value = value + self._draw(self._node_seed(node)) * math.sqrt(left * right / whole)
        if node[1] < _CACHED_DEPTH:
            self._middles[node] = value
        return value

    def _node_seed(self, node: Sequence[int]) -> int:
        sequence = np.random.SeedSequence(self._seed, spawn_key=tuple(node), pool_size=_POOL)
        return int(sequence.generate_state(1)[0])
