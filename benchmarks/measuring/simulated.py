"""The judge in a person's place: it marks pictures that a tune shows, or chooses between sides of pairs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from loratools.measures.judged import judge_measures
from loratools.measures.measure import Shown
from loratools.tune.asking.by_votes import Question

SOUND, BROKEN = 0.5, 1.2  # grades of a defect: up to here a picture is marked good, from here on bad
IN_STYLE, LOST = 0.7, 0.3  # of the style's probability in the whole LoRA's own pictures
UNSURE, SAME = 0.15, 0.05  # grades, of a choice between two sides
MOST = (20, 10, 10)  # marks of either side in each round, 40 in all


def simulated_marks(defect: str, style: str, most: Sequence[int] = MOST) -> Callable[[int, Sequence[Shown]], list[int]]:
    """A marker for :func:`loratools.tune.tuning.tune` with ``measures=(MeasureRequest("marks"),)``.

    As a person would who was told what to look for, it marks the first pictures of either side that it comes across in
    an order by chance: 1 star where the defect clearly shows, 5 where it does not and the style does, 3 where both are
    gone. What lies between it leaves alone.

    Args:
        defect, style: as the judge calls them.
        most: how many of either side it marks, by round.
    """
    measures = judge_measures(style).by_name

    def marker(number: int, pictures: Sequence[Shown]) -> list[int]:
        grades, styles = measures[defect](pictures), measures["style"](pictures)
        stars = [0] * len(pictures)
        left = {kind: most[min(number, len(most)) - 1] for kind in ("bad", "good")}
        for n in np.random.default_rng(number).permutation(len(pictures)):
            if grades[n] >= BROKEN and left["bad"]:
                stars[n], left["bad"] = 1, left["bad"] - 1
            elif grades[n] <= SOUND and styles[n] >= IN_STYLE and left["good"]:
                stars[n], left["good"] = 5, left["good"] - 1
        for n in np.random.default_rng(number).permutation(len(pictures)):  # what is left is of the lesser kind
            if grades[n] <= SOUND and styles[n] <= LOST and left["good"]:
                stars[n], left["good"] = 3, left["good"] - 1
        return stars

    return marker


def simulated_choices(defect: str, seed: int = 0) -> Callable[[Question], float]:
    """A chooser for :func:`loratools.tune.tuning.tune` with ``measures=(MeasureRequest("votes"),)``.

    It takes the side whose mean grade is lower, and is as unsure as :data:`UNSURE`: a difference of that size is seen
    in five of six choices, and one below :data:`SAME` is none.
    """
    measure = judge_measures().by_name[defect]
    random = np.random.default_rng(seed)

    def chooser(question: Question) -> float:
        left, right = (float(measure(side).mean()) for side in (question.left, question.right))
        if abs(left - right) < SAME:
            return 0.5
        return float(right - left + random.normal(0, UNSURE) > 0)

    return chooser
