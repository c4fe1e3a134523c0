"""Placeholders in a vector of bare numbers: LoRA Block Weight's ``R`` and ``U`` (random) and ``X`` (given apart).

Its own random weights are unseeded and only echoed to a console. Here a letter needs ``seed=N``, and the vector that
comes out holds the resolved numbers, so that what was merged can be merged again.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from loratools.blocks.tokens import clip, is_number
from loratools.errors import BlockError, did_you_mean

_X = re.compile(r"[Xx]\s*(?P<offset>[-+]\s*[\d.]+)?\Z")
_LBW = {"R": (0.0, 1.0), "U": (-0.5, 1.5)}
_INSPIRE = {"R": (0.0, 3.0), "U": (-1.5, 1.5)}


@dataclass
class Placeholders:
    """How letters are resolved.

    Args:
        seed: of the random letters; None makes them an error.
        x: what ``X`` stands for; None makes it an error.
        inspire: ComfyUI Inspire's wider ranges, two decimals, and its ``A`` ``B`` (4 and 1; small letters are half).
        a, b: those two.
    """

    seed: int | None = None
    x: float | None = None
    inspire: bool = False
    a: float = 4.0
    b: float = 1.0

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def resolve(self, item: str) -> float:
        """The number that ``item`` stands for; random letters are drawn in the order of the calls.

        Raises:
            BlockError: if it is neither a number nor a letter, or what the letter needs was not given.
        """
        if is_number(item):
            return float(item)
        if item in _LBW:
            return self._draw(item)
        if match := _X.match(item):
            return self._dynamic(item, match["offset"])
        if self.inspire and item in ("A", "B", "a", "b"):
            value = self.a if item.upper() == "A" else self.b
            return value if item.isupper() else value / 2
        raise BlockError(f"'{clip(item)}' in a block vector is not a number{did_you_mean(item, 'RUX')}; write 0.6, say")

    def _draw(self, letter: str) -> float:
        if self.seed is None:
            raise BlockError(f"'{letter}' is a random weight, which needs a seed to be made again: add ,seed=1")
        low, high = (_INSPIRE if self.inspire else _LBW)[letter]
        return round(self._random.uniform(low, high), 2 if self.inspire else 3)

    def _dynamic(self, item: str, offset: str | None) -> float:
        if self.x is None:
            raise BlockError(f"'{item}' stands for a variable weight; say what it is: add ,x=0.7")
        return self.x + (float(offset.replace(" ", "")) if offset else 0.0)


def is_placeholder(item: str) -> bool:
    """Whether ``item`` is a letter that a vector of LoRA Block Weight may hold instead of a number."""
    return item in _LBW or bool(_X.match(item))
