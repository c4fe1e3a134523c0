"""Noise along a Brownian path over the levels, for samplers of the reverse SDE: draws over ways that overlap agree.

Ours remembers the path as far as it was walked. The WebUI's is torchsde's ``BrownianTree``, whose value at every level
is a function of the seed alone: from the path's end a bridge is halved again and again, each middle drawn from a seed
that NumPy's ``SeedSequence`` makes of its place in the tree, down to a grid of a millionth.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

_POOL = 24  # words of SeedSequence's pool in torchsde's tree
_DIGITS = 6  # of its levels
_KEPT = 9  # halvings whose middles are kept; deeper ones are hardly met twice


class BrownianPath:
    """A path that is drawn as it is walked, from the highest level down."""

    def __init__(self, draw: Callable[[], Tensor]) -> None:
        self._draw = draw
        self._at: dict[float, Tensor] = {}

    def __call__(self, now: float, after: float) -> Tensor:
        """The way from ``now`` to the lower ``after``, at unit deviation."""
        for level in (now, after):
            if not self._at:
                self._at[level] = torch.zeros(())
            elif level not in self._at:
                lowest = min(self._at)
                self._at[level] = self._at[lowest] + self._draw() * math.sqrt(lowest - level)
        way = (self._at[after] - self._at[now]) / math.sqrt(now - after)
        self._at = {level: value for level, value in self._at.items() if level <= now}
        return way


class BrownianTree:
    """torchsde's tree of one seed.

    Args:
        low, high: the levels between which it is asked.
        draw: a seed -> the normal numbers of a picture's shape that a generator of this seed gives first.
    """

    def __init__(self, seed: int, low: float, high: float, draw: Callable[[int], Tensor]) -> None:
        self._seed, self._draw = seed, draw
        self._low, self._high = round(low, _DIGITS), round(high, _DIGITS)
        self._end = draw(self._word(())) * math.sqrt(high - low)
        self._middles: dict[tuple[int, int], Tensor] = {}
        self._at: dict[float, Tensor] = {}

    def __call__(self, now: float, after: float) -> Tensor:
        """The way from ``now`` to the lower ``after``, at unit deviation."""
        for level in (now, after):
            if level not in self._at:
                self._at[level] = self._found(level)
        way = (self._at[after] - self._at[now]) / math.sqrt(now - after)
        self._at = {level: value for level, value in self._at.items() if level <= now}
        return way

    def _found(self, level: float) -> Tensor:
        wanted = min(max(round(level, _DIGITS), self._low), self._high)
        low, high, below, above = self._low, self._high, torch.zeros_like(self._end), self._end
        place, depth = 0, 0
        while low < wanted < high:
            middle = round((low + high) / 2, _DIGITS)
            value = self._middle((place, depth), low, middle, high, below, above)
            right = wanted >= middle
            low, below, high, above = (middle, value, high, above) if right else (low, below, middle, value)
            place, depth = 2 * place + right, depth + 1
        return below if wanted == low else above

    def _middle(
        self, place: tuple[int, int], low: float, middle: float, high: float, below: Tensor, above: Tensor
    ) -> Tensor:
        """The bridge's value at ``middle``: the mean of both ends by their nearness, and noise."""
        if place in self._middles:
            return self._middles[place]
        left, right, whole = middle - low, high - middle, high - low
        value = below + (above - below) * (left / whole)
        value = value + self._draw(self._word(place)) * math.sqrt(left * right / whole)
        if place[1] < _KEPT:
            self._middles[place] = value
        return value

    def _word(self, place: Sequence[int]) -> int:
        sequence = np.random.SeedSequence(self._seed, spawn_key=tuple(place), pool_size=_POOL)
        return int(sequence.generate_state(1)[0])
