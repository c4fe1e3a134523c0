"""The pictures of a descent: the search's prompts in turn, each time under a seed that nothing else has."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from loratools.tune.problem.prompts import Shot

_FIRST_SEED = 1 << 20  # far above those of the search, of the fresh pictures and of the report, which follow these
_ABOVE = 1 << 16  # where a person's own seeds are as high: above all that follow them


@dataclass(frozen=True)
class DescentShots:
    """Pictures without end, so that no picture is fitted twice.

    Attributes:
        pool: the search's shots, whose prompts are taken.
        seed: of the prompts' order.
    """

    pool: Sequence[Shot]
    seed: int

    def of(self, step: int, count: int) -> list[Shot]:
        """The shots of a step, counted from 1."""
        prompts = list(dict.fromkeys(shot.prompt for shot in self.pool))
        random.Random(f"descent {self.seed}").shuffle(prompts)
        numbers = range((step - 1) * count, step * count)
        first = max(_FIRST_SEED, _ABOVE + max(shot.seed for shot in self.pool))
        return [Shot(prompts[number % len(prompts)], first + number) for number in numbers]
