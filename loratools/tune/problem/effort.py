"""How much a tune draws."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Effort:
    """The size of every part of a tune.

    Attributes:
        prompts: of the search, and ``held_out`` of the report, where there are more than are needed.
        pool: pictures that a vector's mean is of: a search with fewer prompts takes as many seeds as that needs. With
            few of them a search learns what these pictures are like, and other pictures lose their style. Vectors that
            are drawn for many pictures are drawn for so many.
        shots: pictures that a vector of the search is drawn for, some of all in turn.
        population: vectors of a generation.
        screening: vectors that show what each block does, before the search.
        generations: of the search.
        checks: rounds in which answers are drawn for ``pool`` pictures.
        fresh: pictures of other prompts, or other seeds where there are few, which the best answers are drawn for
            before one is chosen.
        strengths: of the whole stack, to compare with.
        steps: sampler steps of a search picture.
        descent: steps down the gradient, where measures have one, of ``descent_shots`` pictures each.
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
    descent: int = 96
    descent_shots: int = 8

    def search_stages(self, count: int, fresh: int) -> dict[str, int]:
        """How many pictures each stage of the search draws at most, with ``count`` shots and ``fresh`` ones to choose
        by; the stages are those of :class:`~loratools.tune.progress.TuneProgress`."""
        shots = min(self.shots, count)
        return {
            **self._first_stages(count),
            "screening": self.screening * shots,
            "search": self.generations * self.population * shots,
            "check": self.checks * self.check_pictures(count),
            "fresh": fresh_pictures(fresh) if self.checks else 0,
        }

    def descent_stages(self, count: int, fresh: int, cost: int) -> dict[str, int]:
        """The same of a search down the gradient, whose pictures count for ``cost`` each."""
        return {
            **self._first_stages(count),
            "descent": cost * self.descent * self.descent_shots,
            "fresh": fresh_pictures(fresh),
        }

    def search_pictures(self, count: int, fresh: int) -> int:
        """How many pictures the search draws at most; see :meth:`search_stages`."""
        return sum(self.search_stages(count, fresh).values())

    def descent_pictures(self, count: int, fresh: int, cost: int) -> int:
        """The same of a search down the gradient; see :meth:`descent_stages`."""
        return sum(self.descent_stages(count, fresh, cost).values())

    def check_pictures(self, count: int) -> int:
        """How many pictures a round of checks draws, with ``count`` shots."""
        return CHECKED * min(self.pool, count)

    def _first_stages(self, count: int) -> dict[str, int]:
        """Of the base and the whole stack, and of plain strengths."""
        return {"base": 2 * count, "ladder": len(self.strengths) * min(self.pool, count)}


JUDGED = 4  # pictures that one with its gradient costs: drawn, drawn again, and twice that backwards
SEEN = 5  # the same where the base's UNet reads it too: five more calls on top of some twenty, four times over
CHECKED = 3  # answers that a round of checks draws
FINALISTS = 6  # answers of a round that fresh pictures are drawn of
FRESH_ROUNDS = 2


def fresh_pictures(shots: int, rounds: int = FRESH_ROUNDS) -> int:
    """Pictures by which one of the best answers is chosen, at most: of the base, the whole LoRA, plain strength and the
    finalists of each round."""
    return (3 + rounds * FINALISTS) * shots


FULL = Effort(
    prompts=160,
    held_out=24,
    pool=72,
    shots=8,
    population=12,
    screening=40,
    generations=32,
    checks=2,
    fresh=48,
    strengths=(0.9, 0.8, 0.7, 0.6, 0.5),
)
QUICK = Effort(
    prompts=80,
    held_out=24,
    pool=36,
    shots=6,
    population=10,
    screening=30,
    generations=12,
    checks=1,
    fresh=24,
    strengths=(0.9, 0.8, 0.65, 0.5),
    descent=32,
)
