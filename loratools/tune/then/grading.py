"""Which pictures show what a LoRA should draw, and which what it should not: by the search's own measures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
import numpy.typing as npt

from loratools.measures.measure import Shown
from loratools.tune.arrays import Array
from loratools.tune.problem.goals import Goals, Values

_GOOD = 0.5  # of the mean cost of all: a picture that costs less is good, which is half of the way to the base's level
_SLACK = 0.25  # of all that there is to keep: a single picture may miss a constraint by so much
_NOTHING = 0.05  # of the whole LoRA's excess over the base: a mean cost below this leaves nothing to repair
_PER_PROMPT = 2.0  # times its even share: at most so many of one prompt's pictures, which may just hide the defect


@dataclass(frozen=True, eq=False)
class Graded:
    """Pictures and what the goals say of each.

    Attributes:
        costs: (n,), 0 as good as the base and 1 as bad as the whole LoRA; NaN where no measure can tell.
        kept: (n,), whether it has the style and shows what its prompt says.
        missed: (n,), how far it misses what is to be kept, in all.
    """

    shown: tuple[Shown, ...]
    costs: Array
    kept: npt.NDArray[np.bool_]
    missed: Array

    @staticmethod
    def of(shown: Sequence[Shown], values: Values, goals: Goals) -> Graded:
        """Grade pictures by what the measures say of them."""
        costs = goals.cost(values)
        worths = [np.nan_to_num(each.worth(values[each.name])) for each in goals.constraints]
        missed = sum((np.maximum(0.0, -worth) for worth in worths), np.zeros_like(costs))
        kept = np.all([worth >= -_SLACK for worth in worths] or [np.ones(len(costs), dtype=bool)], axis=0)
        return Graded(tuple(shown), costs, kept, missed)

    @property
    def mean(self) -> float:
        """Of the costs that are known."""
        return float(np.nanmean(self.costs))

    @property
    def bar(self) -> float:
        """The cost that a good picture stays below."""
        return _GOOD * self.mean

    @property
    def is_sound(self) -> bool:
        """Whether there is nothing to repair that could be told from the base."""
        return self.mean < _NOTHING

    def good(self, bar: float | None = None) -> list[int]:
        """Numbers of the good pictures that keep style and prompt, the best first.

        Args:
            bar: another cost to stay below.
        """
        below = self.costs < (self.bar if bar is None else bar)  # NaN is below nothing
        return self._ranked(below & self.kept, self.costs + self.missed)

    def bad(self) -> list[int]:
        """Numbers of the pictures that show the defect more than most, the worst that keep the rest first.

        What is to be kept may be missed: the mean of all defects, which is, rises with the one that is to go.
        """
        return self._ranked(self.costs > max(self.mean, self.bar), self.missed - self.costs)

    @staticmethod
    def _ranked(chosen: npt.NDArray[np.bool_], by: Array) -> list[int]:
        return [int(number) for number in np.argsort(by, kind="stable") if chosen[number]]


def spread_over_prompts(graded: Graded, numbers: Sequence[int], most: int) -> list[int]:
    """At most ``most`` of ``numbers``, first come first, and of no prompt more than twice its even share."""
    prompts = len({shown.prompt for shown in graded.shown})
    limit = ceil(_PER_PROMPT * most / max(1, prompts))
    counts: dict[str, int] = {}
    taken: list[int] = []
    for number in numbers:
        prompt = graded.shown[number].prompt
        if counts.get(prompt, 0) < limit and len(taken) < most:
            counts[prompt] = counts.get(prompt, 0) + 1
            taken.append(number)
    return taken


def paired_by_prompt(graded: Graded, most: int) -> tuple[list[int], list[int]]:
    """As many good as bad pictures of every prompt, ``most`` each at most: they differ in the defect, not in what they
    show."""
    good, bad = graded.good(), graded.bad()
    pairs = []
    for prompt in dict.fromkeys(shown.prompt for shown in graded.shown):
        own = [[number for number in numbers if graded.shown[number].prompt == prompt] for numbers in (good, bad)]
        pairs += list(zip(*own, strict=False))
    pairs.sort(key=lambda pair: float(graded.costs[pair[0]] - graded.costs[pair[1]]))
    return [one for one, _ in pairs[:most]], [other for _, other in pairs[:most]]
