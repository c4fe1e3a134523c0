"""How far a search may move a block's weight."""

from __future__ import annotations

import math
from dataclasses import dataclass

from loratools.errors import TuneError

LOWEST, HIGHEST = -0.5, 1.8  # tried by default: further than people write, which repairs more and keeps more style
_LEAST, _GREATEST = -2.0, 3.0  # beyond these a LoRA's pictures say nothing of it


@dataclass(frozen=True)
class WeightRange:
    """The least and the greatest weight of a block that are tried.

    Below 0 a block is subtracted: what it learnt is turned round. Weights that the stack was given with are in the
    range whatever it is. The default was measured: of seven LoRAs of the Repair table (benchmarks/results/tune.md) it
    left 36 % of the excess and 97 % of the style, and 0 to 1.4 left 43 % and 94 %.

    Raises:
        TuneError: for numbers that are no range around 1.
    """

    lowest: float = LOWEST
    highest: float = HIGHEST

    def __post_init__(self) -> None:
        if not (math.isfinite(self.lowest) and _LEAST <= self.lowest < 1):
            raise TuneError(
                f"lowest {self.lowest:g} is no least weight of a block; give a number from {_LEAST:g} to below 1, such "
                "as -0.5"
            )
        if not (math.isfinite(self.highest) and 1 <= self.highest <= _GREATEST):
            raise TuneError(
                f"highest {self.highest:g} is no greatest weight of a block; give a number from 1 to {_GREATEST:g}, "
                "such as 2"
            )

    def facts(self) -> dict[str, float]:
        """As JSON values."""
        return {"lowest": self.lowest, "highest": self.highest}


NARROW = WeightRange(0.0, 1.4)  # what people write
