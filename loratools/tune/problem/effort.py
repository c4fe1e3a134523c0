"""How much a tune draws."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Effort:
    """The size of every part of a tune.

    Attributes:
        prompts: of the search, and ``held_out`` of the report, where there are more than are needed.
        pool: pictures that a vector's mean is of: the search's prompts take as many seeds as that needs. With few of
            them a search learns what these pictures are like, and other pictures lose their style.
        shots: pictures that a vector of the search is drawn for, some of the pool in turn.
        population: vectors of a generation.
        screening: vectors that show what each block does, before the search.
        generations: of the search.
        checks: rounds in which answers are drawn for the whole pool.
        fresh: pictures of other seeds, by which one of the best answers is chosen; with none the model chooses.
        strengths: of the whole stack, to compare with.
        steps: sampler steps of a search picture.
    """

    prompts: int
    held_out: int
    pool: int
    shots: int
    population: int
    screening: int
    generations: int
    checks: int
    fresh: int
    strengths: tuple[float, ...]
    steps: int = 10

    def search_pictures(self, pool: int, fresh: int) -> int:
        """How many pictures the search draws at most, with ``pool`` shots and ``fresh`` ones to choose by."""
        shots = min(self.shots, pool)
        ladder = (2 + len(self.strengths)) * pool
        chosen = fresh_pictures(fresh) if self.checks else 0
        return ladder + (self.screening + self.generations * self.population) * shots + self.checks * 3 * pool + chosen


FINALISTS = 6  # answers of a round between which fresh pictures choose
FRESH_ROUNDS = 2


def fresh_pictures(shots: int, rounds: int = FRESH_ROUNDS) -> int:
    """Pictures by which one of the best answers is chosen: of the base, the whole LoRA, plain strength, and the
    finalists of each round."""
    return (3 + rounds * FINALISTS) * shots


FULL = Effort(
    prompts=24,
    held_out=8,
    pool=72,
    shots=8,
    population=12,
    screening=40,
    generations=24,
    checks=2,
    fresh=48,
    strengths=(0.9, 0.8, 0.7, 0.6, 0.5),
)
QUICK = Effort(
    prompts=12,
    held_out=8,
    pool=36,
    shots=6,
    population=10,
    screening=30,
    generations=12,
    checks=1,
    fresh=24,
    strengths=(0.9, 0.8, 0.65, 0.5),
)
