"""How much a tune draws."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Effort:
    """The size of every part of a tune.

    Attributes:
        prompts: of the search, and ``held_out`` of the report, where there are more than are needed.
        shots: pictures that a vector of the search is drawn for.
        population: vectors of a generation.
        screening: vectors that show what each block does, before the search.
        generations: of the search.
        checks: rounds in which answers are drawn for all shots of the search.
        strengths: of the whole stack, to compare with.
        steps: sampler steps of a search picture.
    """

    prompts: int
    held_out: int
    shots: int
    population: int
    screening: int
    generations: int
    checks: int
    strengths: tuple[float, ...]
    steps: int = 10

    def search_pictures(self, pool: int) -> int:
        """How many pictures the search draws, with a pool of ``pool`` shots: the base's and the ladder's are of all."""
        shots = min(self.shots, pool)
        ladder = (2 + len(self.strengths)) * pool
        return ladder + (self.screening + self.generations * self.population) * shots + self.checks * 3 * pool


FULL = Effort(
    prompts=8,
    held_out=8,
    shots=6,
    population=10,
    screening=30,
    generations=14,
    checks=2,
    strengths=(0.9, 0.8, 0.7, 0.6, 0.5),
)
QUICK = Effort(
    prompts=4,
    held_out=6,
    shots=4,
    population=8,
    screening=24,
    generations=8,
    checks=1,
    strengths=(0.9, 0.8, 0.65, 0.5),
)
