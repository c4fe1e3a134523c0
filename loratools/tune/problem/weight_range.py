"""How far a search may move a block's weight."""

from __future__ import annotations

import math
from dataclasses import dataclass

from loratools.errors import TuneError

LOWEST, HIGHEST = 0.0, 1.4  # what people write
_LEAST, _GREATEST = -2.0, 3.0  # beyond these a LoRA's pictures say nothing of it


@dataclass(frozen=True)
class WeightRange:
    """The least and the greatest weight of a block that are tried.

    Below 0 a block is subtracted: what it learnt is turned round. Weights that the stack was given with are in the
    range whatever it is.

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
        """As JSON values; none for the usual range."""
        return {} if self == WeightRange() else {"lowest": self.lowest, "highest": self.highest}
