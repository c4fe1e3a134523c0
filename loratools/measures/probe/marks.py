"""Marks as a measure: a probe of the base's own features tells good from bad, once it has shown that it can."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from loratools.errors import MeasureError
from loratools.measures.measure import Better, Shown
from loratools.measures.probe.marked import Marked
from loratools.measures.probe.ridge import Probe, fit_probe

Values = npt.NDArray[np.float64]
Describe = Callable[[Sequence[Shown]], Values]  # pictures -> features (n, d)


@dataclass(frozen=True, eq=False)
class ProbeMeasure:
    """A probe's figure of each picture: around 1 as bad as the pictures marked bad, around -1 as good as the good."""

    name: str
    better: Better
    describe: Describe
    probe: Probe

    def __call__(self, pictures: Sequence[Shown]) -> Values:
        return self.probe(self.describe(pictures))


@dataclass(frozen=True, eq=False)
class Unfamiliar:
    """How far a picture is from all that was marked: 1 is as far as marked pictures usually are from each other.

    A probe knows nothing of pictures unlike those that it learnt from; a search that leads there fools it. The distance
    is the one to the nearest marked picture in scaled features, over the median of what that is among the marked ones.
    """

    describe: Describe
    probe: Probe
    marked: Values  # (m, d), scaled
    usual: float
    name: str = "unfamiliar"
    better: Better = "lower"

    def __call__(self, pictures: Sequence[Shown]) -> Values:
        distances = _nearest(self.probe.scaling(self.describe(pictures)), self.marked)
        return distances / self.usual


@dataclass(frozen=True, eq=False)
class MarksMeasures:
    """What marks give: the measure, its guard, and how far it can be trusted in a sentence."""

    measure: ProbeMeasure
    guard: Unfamiliar
    note: str


def marks_measures(marked: Marked, describe: Describe) -> MarksMeasures:
    """The measure that ``marked`` pictures make in the features of ``describe``.

    It is trusted by pictures that it has not learnt from: whole prompts are left out in turn where there are three or
    more, else tenths.

    Raises:
        MeasureError: if these are not told apart better than by chance.
    """
    pictures = marked.pictures
    features = describe(pictures)
    bad = np.arange(len(pictures)) < len(marked.bad)
    prompts = [picture.prompt for picture in pictures]
    probe = fit_probe(features, bad, groups=prompts if all(prompts) else None)
    if not probe.auc.clears_chance:
        raise MeasureError(
            f"the marks cannot be told apart yet: {probe.auc.text()}, and guessing is 0.5; mark more pictures that "
            "clearly differ in this one respect"
        )
    scaled = probe.scaling(features)
    usual = float(np.median(_nearest(scaled, scaled, own=True)))
    return MarksMeasures(
        ProbeMeasure("marks", "lower", describe, probe),
        Unfamiliar(describe, probe, scaled, max(usual, 1e-12)),
        f"marks: {probe.auc.text()}, none of which it had learnt from",
    )


def _nearest(one: Values, others: Values, own: bool = False) -> Values:
    """(n,) root mean square difference to the nearest of ``others``; with ``own`` they are the same, and not itself."""
    squares = (one**2).sum(1)[:, None] + (others**2).sum(1) - 2 * one @ others.T
    if own:
        np.fill_diagonal(squares, np.inf)
    nearest: Values = np.sqrt(np.maximum(squares.min(1), 0) / one.shape[1])
    return nearest
