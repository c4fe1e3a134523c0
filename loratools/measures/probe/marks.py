"""Marks as a measure: a probe of the base's own features tells good from bad, once it has shown that it can.

The base's own pictures count as good ones that nobody had to mark: whatever the LoRA broke, they are without it. That
matters most where the good marks all show the LoRA's style: without the base's pictures the probe follows the grade of
the defect over vectors with r = 0.28, with them with 0.90 (benchmarks/results/measures.md).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from loratools.errors import UnsureError
from loratools.measures.measure import Better, Measure, Shown
from loratools.measures.probe.feature_measure import Describe, FeatureMeasure, Values, constant, probed, scaled
from loratools.measures.probe.marked import Marked
from loratools.measures.probe.ridge import Probe, Scaling, fit_probe

SECOND = "second_probe"  # the measure that only checks
_USUAL = 0.95  # of known pictures are no further than this quantile from those of other prompts
_NO_DISTANCE = 1e-12  # below which the slope of a root is no number
_GOOD = -1.0  # the figure of pictures marked good; what is lower is nothing that the probe has ever seen


@dataclass(frozen=True, eq=False)
class ProbeMeasure(FeatureMeasure):
    """A probe's figure of each picture: around 1 as bad as the pictures marked bad, -1 as good as the good ones.

    It ends at -1: a search that could get lower figures would find what fools the probe, not better pictures.
    """

    name: str
    better: Better
    describe: Describe
    probe: Probe

    def figures(self, features: Tensor) -> Tensor:
        """(n,) for features (n, d)."""
        return probed(self.probe, features).clamp(min=_GOOD)


@dataclass(frozen=True, eq=False)
class Unfamiliar(FeatureMeasure):
    """How much further a picture is from all known ones than these are from those of other prompts; 0 is no further.

    A probe knows nothing of pictures unlike those that it learnt from. The distance is the one to the nearest known
    picture, marked or the base's own, in scaled features; 1 is twice as far as is usual.
    """

    describe: Describe
    scaling: Scaling
    known: Values  # (m, d), scaled
    usual: float
    name: str = "unfamiliar"
    better: Better = "lower"

    def figures(self, features: Tensor) -> Tensor:
        """(n,) for features (n, d)."""
        own, known = scaled(self.scaling, features), constant(self.known, features)
        squares = (own**2).sum(1)[:, None] + (known**2).sum(1) - 2 * own @ known.T
        nearest = (squares.amin(1) / own.shape[1]).clamp(min=_NO_DISTANCE).sqrt()
        return (nearest / self.usual - 1).clamp(min=0)


@dataclass(frozen=True, eq=False)
class MarksMeasures:
    """What marks give: the measure, its guard, and how far it can be trusted in sentences."""

    measure: ProbeMeasure
    guard: Unfamiliar
    notes: tuple[str, ...]


def marks_measures(marked: Marked, describe: Describe, base: Sequence[Shown] = ()) -> MarksMeasures:
    """The measure that ``marked`` pictures make in the features of ``describe``.

    It is trusted by marked pictures that it has not learnt from: whole prompts are left out in turn where there are
    three or more, else tenths.

    Args:
        base: the base's own pictures, without the LoRA.
    Raises:
        UnsureError: if the marks are not told apart better than by chance.
    """
    probe, features = _fitted(marked, describe, base)
    prompts = [picture.prompt for picture in marked.pictures]
    if not probe.auc.clears_chance:
        raise UnsureError(
            f"the marks cannot be told apart yet: {probe.auc.text()}, and guessing is 0.5; mark more pictures that "
            "clearly differ in this one respect"
        )
    scaled = probe.scaling(features)
    guard = Unfamiliar(
        describe, probe.scaling, scaled, usual_distance(scaled, [*prompts, *(each.prompt for each in base)])
    )
    return MarksMeasures(ProbeMeasure("marks", "lower", describe, probe), guard, _notes(probe))


@dataclass(frozen=True, eq=False)
class SecondProbe:
    """A probe of the same marks in other features, or None where it tells nothing; and a sentence on its trust."""

    measure: Measure | None
    note: str


def second_probe(marked: Marked, describe: Describe, base: Sequence[Shown] = ()) -> SecondProbe:
    """What has to agree with the measure of :func:`marks_measures` and leads no search.

    What a search finds to please one probe pleases another one only so far as it is what the marks mean.

    Args:
        describe: other features than those that lead the search.
    """
    probe, _ = _fitted(marked, describe, base)
    if not probe.auc.clears_chance:
        return SecondProbe(
            None,
            f"second probe: {probe.auc.text()}, no better than guessing, so that nothing checks the first one; look at "
            "the sheet, or mark more pictures",
        )
    note = f"second probe: {probe.auc.text()}; it leads nothing, and a gain that it does not see is refused"
    return SecondProbe(ProbeMeasure(SECOND, "lower", describe, probe), note)


def _fitted(marked: Marked, describe: Describe, base: Sequence[Shown]) -> tuple[Probe, Values]:
    """The probe, and the features of the marked and the base's pictures."""
    pictures = marked.pictures
    features = describe([*pictures, *base])
    own, known = features[: len(pictures)], features[len(pictures) :]
    bad = np.arange(len(pictures)) < len(marked.bad)
    prompts = [picture.prompt for picture in pictures]
    probe = fit_probe(own, bad, groups=prompts if all(prompts) else None, known=known if len(base) else None)
    return probe, features


def _notes(probe: Probe) -> tuple[str, ...]:
    trust = f"marks: {probe.auc.text()}, none of which it had learnt from"
    if probe.by_group:
        return (trust,)
    return (
        trust,
        "marks: fewer than three known prompts have both good and bad pictures, so that the figure above may be too "
        "good (pictures of one prompt are alike anyhow); mark both of more prompts",
    )


def usual_distance(scaled: Values, prompts: Sequence[Hashable]) -> float:
    """Of known pictures (m, d) to the nearest one of another prompt; where there is none, to the nearest one at all."""
    same = np.array([[one == two for two in prompts] for one in prompts])
    if same.all(axis=1).any():
        same = np.eye(len(prompts), dtype=bool)
    squares = np.where(same, np.inf, _squares(scaled, scaled))
    nearest = np.sqrt(np.maximum(squares.min(1), 0) / scaled.shape[1])
    return max(float(np.quantile(nearest, _USUAL)), 1e-12)


def _squares(one: Values, others: Values) -> Values:
    squares: Values = (one**2).sum(1)[:, None] + (others**2).sum(1) - 2 * one @ others.T
    return squares
