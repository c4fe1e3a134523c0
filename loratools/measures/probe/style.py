"""Style without a judge: how far a picture has gone from the base's own towards the training pictures.

In the features of the base's UNet, scaled so that each counts alike, the direction is the one from the mean of the
base's pictures to the mean of the training pictures. A picture's place on it, 0 for the base and 1 for the whole LoRA
(or the training pictures, where the LoRA goes beyond them), becomes a share by a logistic curve that is 1/2 halfway: a
style is there or it is not, and what a defect adds to the way once the style is there counts for little. Pictures
marked good put the 1 nearer, to where the furthest tenth of them is, at least halfway: they show how much of the way is
style and not defect.

Of what was tried (benchmarks/results/measures.md) ridge probes say the same with more arithmetic, plain closeness
follows prompts as much as style, and taking a probe of the defect out of the features takes style along, since a LoRA
learns both together. The base's pictures have to be of the whole LoRA's prompts and seeds: others make it too strict.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from loratools.measures.measure import Better, Shown
from loratools.measures.probe.auc import Auc, auc
from loratools.measures.probe.feature_measure import Describe, FeatureMeasure, Values, constant, probed, scaled
from loratools.measures.probe.ridge import Probe, Scaling, fit_probe

FEWEST = 3  # pictures of either side
_STEEPNESS = 10.0  # of the logistic curve, over the way from the base to the whole LoRA
_FAR = 3.0  # deviations
_FURTHEST = 0.9  # the quantile of the pictures marked good whose place counts
_HALFWAY = 0.5
_LEAST_WAY = 0.2  # of the way to the training pictures: a LoRA that goes less far has hardly any of their style


@dataclass(frozen=True, eq=False)
class StyleMeasure(FeatureMeasure):
    """The share of the style that each picture shows, between 0 and 1.

    Attributes:
        origin, direction: (d,) of scaled features; the figure is 0 at the origin and 1 at the training pictures' mean.
        end: where the style is there: at the whole LoRA's pictures, or at those that were marked good; 1 at most.
    """

    describe: Describe
    scaling: Scaling
    origin: Values
    direction: Values
    end: float
    name: str = "style"
    better: Better = "higher"

    def figures(self, features: Tensor) -> Tensor:
        """(n,) for features (n, d)."""
        own = scaled(self.scaling, features).clamp(-_FAR, _FAR) - constant(self.origin, features)
        way = own @ constant(self.direction, features) / self.end
        return (_STEEPNESS * (way - 0.5)).sigmoid()


@dataclass(frozen=True, eq=False)
class MarkedStyle(FeatureMeasure):
    """The style by marks: 1 as in pictures marked good, 0 as in sound ones that were marked to have lost it."""

    describe: Describe
    probe: Probe
    name: str = "style"
    better: Better = "higher"

    def figures(self, features: Tensor) -> Tensor:
        """(n,) for features (n, d)."""
        return ((probed(self.probe, features) + 1) / 2).clamp(0, 1)


@dataclass(frozen=True, eq=False)
class StyleSeen:
    """A measure of style, or None where none can be seen; and a sentence on how far it can be trusted."""

    measure: StyleMeasure | MarkedStyle | None
    note: str


def marked_style(describe: Describe, good: Sequence[Shown], lost: Sequence[Shown]) -> StyleSeen:
    """The measure of what sound pictures in the style have and sound ones that have lost it do not.

    Args:
        good, lost: six or more of either.
    """
    features = describe([*good, *lost])
    probe = fit_probe(features, np.arange(len(features)) < len(good))
    text = f"AUC {probe.auc.value:.2f} ({probe.auc.low:.2f} to {probe.auc.high:.2f})"
    if not probe.auc.clears_chance:
        return StyleSeen(None, f"style: your marks of it tell no more than guessing ({text}), so none is kept")
    note = f"style: by {len(good)} marks with it and {len(lost)} without, {text}"
    return StyleSeen(MarkedStyle(describe, probe), note)


def style_measure(
    describe: Describe,
    taught: Sequence[Shown],
    base: Sequence[Shown],
    whole: Sequence[Shown],
    good: Sequence[Shown] = (),
) -> StyleSeen:
    """The measure of what ``taught`` pictures have in common and the base's do not.

    It is trusted by the pictures of either side, each by the direction that others give.

    Args:
        taught: training pictures, or the whole LoRA's.
        base, whole: the base's own and the whole LoRA's, of the same prompts and seeds.
        good: pictures of the LoRA that were marked good.
    """
    if min(len(taught), len(base), len(whole)) < FEWEST:
        fewest = min(len(taught), len(base), len(whole))
        return StyleSeen(None, f"style: {fewest} pictures are too few to see a style in; {FEWEST} at least are needed")
    features = describe([*taught, *base, *whole, *good])
    ends = np.cumsum([len(taught), len(base), len(whole)])
    own, before, after, sound = np.split(features, ends)
    return style_in(own, before, after, sound, describe)


def style_in(taught: Values, base: Values, whole: Values, good: Values, describe: Describe) -> StyleSeen:
    """The same from features (n, d) of the pictures; ``describe`` is what gave them."""
    told = _left_out(taught, base)
    if not told.clears_chance:
        return StyleSeen(None, f"style: the base's own pictures show it as well ({told.value:.2f}), so none is kept")
    scaling = Scaling.of(np.concatenate([taught, base, whole]))
    origin, direction = _way(_bounded(scaling(taught)), _bounded(scaling(base)))
    reached = float(((_bounded(scaling(whole)) - origin) @ direction).mean())
    interval = f"{told.value:.2f} ({told.low:.2f} to {told.high:.2f})"
    note = (
        f"style: what was learnt and the base's own pictures are told apart with AUC {interval}; the whole LoRA goes "
    )
    note += f"{reached:.0%} of the way"
    if reached < _LEAST_WAY:
        return StyleSeen(None, f"{note}, too little to be kept")
    end = min(1.0, reached)
    if len(good):
        furthest = float(np.quantile((_bounded(scaling(good)) - origin) @ direction, _FURTHEST))
        end = min(end, max(furthest, _HALFWAY * end))
    return StyleSeen(StyleMeasure(describe, scaling, origin, direction, end), note)


def _bounded(scaled: Values) -> Values:
    """A feature that hardly differs among known pictures, and does in another one, counts for no more than others."""
    bounded: Values = np.clip(scaled, -_FAR, _FAR)
    return bounded


def _way(taught: Values, base: Values) -> tuple[Values, Values]:
    """(origin, direction) of scaled features, so that the means of the two are at 1 and at 0."""
    origin = base.mean(0)
    difference = taught.mean(0) - origin
    return origin, difference / max(float(difference @ difference), 1e-12)


def _left_out(taught: Values, base: Values) -> Auc:
    """How well the two are told apart by the direction that all others give, a tenth at a time."""
    x = np.concatenate([taught, base])
    x = _bounded(Scaling.of(x)(x))
    first = np.arange(len(x)) < len(taught)
    number = np.where(first, np.arange(len(x)), np.arange(len(x)) - len(taught))
    folds = number % min(10, len(taught), len(base))
    figures = np.empty(len(x))
    for fold in range(int(folds.max()) + 1):
        out = folds == fold
        origin, direction = _way(x[first & ~out], x[~first & ~out])
        figures[out] = (x[out] - origin) @ direction
    return auc(figures[first], figures[~first])
