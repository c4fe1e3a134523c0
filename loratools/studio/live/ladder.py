"""How a quick picture is drawn: fewer steps, and where that is still too slow, half its size from the same noise."""

from __future__ import annotations

from dataclasses import dataclass, replace

from loratools.preview.record.cells import SamplingSettings

TOO_SLOW = 0.45  # seconds a quick picture may take
_PATIENCE = 2  # slow pictures in a row before the next rung
_SMALLEST = 256  # pixels; a picture is not made smaller than that


@dataclass(frozen=True)
class Rung:
    """How much less than the whole picture is drawn: at most ``steps`` steps, and sides divided by ``shrink``."""

    steps: int
    shrink: int = 1

    def settings(self, whole: SamplingSettings, scale_factor: int) -> SamplingSettings:
        """``whole`` as this rung draws it; sides stay multiples of ``scale_factor``."""
        size = smaller(whole.size, self.shrink, scale_factor)
        return replace(whole, steps=min(self.steps, whole.steps), size=size)


RUNGS = (Rung(6), Rung(4), Rung(4, 2))


class Ladder:
    """The rung for each size of picture on one base. It only goes down, and only after several slow pictures, so that
    pictures do not change their kind to and fro under a hand."""

    def __init__(self, too_slow: float = TOO_SLOW) -> None:
        self._too_slow = too_slow
        self._at: dict[tuple[int, int], int] = {}
        self._slow: dict[tuple[int, int], int] = {}

    def rung(self, size: tuple[int, int]) -> Rung:
        """How a quick picture of ``size``, the whole one's (height, width), is drawn now."""
        return RUNGS[self._at.get(size, 0)]

    def took(self, size: tuple[int, int], seconds: float) -> None:
        """A quick picture of ``size`` took so long; pictures that loaded or compiled something do not count."""
        self._slow[size] = self._slow.get(size, 0) + 1 if seconds > self._too_slow else 0
        after = self._at.get(size, 0) + 1
        if self._slow[size] < _PATIENCE or after >= len(RUNGS):
            return
        if RUNGS[after].shrink > 1 and min(size) // RUNGS[after].shrink < _SMALLEST:
            return
        self._at[size], self._slow[size] = after, 0


def smaller(size: tuple[int, int], shrink: int, scale_factor: int) -> tuple[int, int]:
    """``size`` divided by ``shrink``, down to multiples of ``scale_factor``."""
    height, width = (max(scale_factor, side // shrink // scale_factor * scale_factor) for side in size)
    return height, width
