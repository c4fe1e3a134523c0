"""Choices between pictures as a measure: what the chosen sides have in common, in the features of the base's own UNet.

A side is a vector's pictures of a few prompts and seeds, and the other side shows the same ones, so that prompts cancel
out. Its utility is linear in the mean of its pictures' scaled features, with a Gaussian prior and a probit of the
difference (:mod:`loratools.measures.votes.preference`): each choice says something of every picture like these, also of
vectors that nobody was asked about. Twenty choices tell pictures apart as well as forty marks do
(benchmarks/results/measures.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from loratools.errors import MeasureError, UnsureError
from loratools.measures.measure import Better, Shown
from loratools.measures.probe.feature_measure import Describe, FeatureMeasure, Values, constant, scaled
from loratools.measures.probe.marks import SECOND, SecondProbe, Unfamiliar, usual_distance
from loratools.measures.probe.ridge import Scaling
from loratools.measures.votes.preference import FEATURE_KERNELS, Choice, Preference, fit_preference

FEWEST = 6  # choices, fewer than which cannot clear chance
_FOLDS = 10
_FAR = 4.0  # deviations: a feature that hardly differs among known pictures counts for no more than others
_BEST = 0.1  # figures end at this quantile of the pictures that were compared, or at the base's own if that is lower


@dataclass(frozen=True)
class PairChoice:
    """Two sides that were shown, and what the left one won: 1, 0.5 for a tie, or 0.

    Attributes:
        left, right: pictures of the same prompts and seeds.
        names: of the sides; one side has one name wherever it comes again.
    """

    left: tuple[Shown, ...]
    right: tuple[Shown, ...]
    won: float
    names: tuple[str, str]


@dataclass(frozen=True)
class Foretold:
    """How many choices, none of which were learnt from, are foretold; ties left out.

    The interval is Wilson's of 90 %: of twenty voters who toss a coin, one is believed.
    """

    right: int
    of: int

    @property
    def interval(self) -> tuple[float, float]:
        """Of the share that is foretold."""
        if not self.of:
            return 0.0, 1.0
        z, n, p = 1.644854, self.of, self.right / self.of
        middle = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
        return max(0.0, middle - half), min(1.0, middle + half)

    @property
    def clears_chance(self) -> bool:
        """Whether tossing a coin lies below the interval."""
        return self.interval[0] > 0.5

    def text(self) -> str:
        """``17 of 20 choices foretold, 85 % (68 to 94)``."""
        low, high = self.interval
        share = self.right / self.of if self.of else 0.0
        return f"{self.right} of {self.of} choices foretold, {100 * share:.0f} % ({100 * low:.0f} to {100 * high:.0f})"


@dataclass(frozen=True, eq=False)
class PairProbe(FeatureMeasure):
    """How much worse a picture is than would be chosen: 0 as the whole LoRA's are, lower is better.

    Attributes:
        weights: (d,) of scaled features, whose sum is the utility.
        whole: the mean utility of the whole LoRA's pictures, and ``unit`` the deviation among those that were compared.
        lowest: where figures end: a search gains nothing by what goes beyond all that was seen.
    """

    describe: Describe
    scaling: Scaling
    weights: Values
    whole: float
    unit: float
    lowest: float
    name: str = "votes"
    better: Better = "lower"

    def figures(self, features: Tensor) -> Tensor:
        """(n,) for features (n, d)."""
        utilities = scaled(self.scaling, features).clamp(-_FAR, _FAR) @ constant(self.weights, features)
        return ((self.whole - utilities) / self.unit).clamp(min=self.lowest)


@dataclass(frozen=True, eq=False)
class PairMeasures:
    """What choices give: the measure, its guard, and how far it can be trusted in sentences."""

    measure: PairProbe
    guard: Unfamiliar
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Sides:
    """All sides that were compared, each once, in features that are scaled by all pictures that are known.

    Attributes:
        features: (sides, d), the mean of each side's pictures.
        choices: between sides, by number.
    """

    scaling: Scaling
    names: tuple[str, ...]
    features: Values
    choices: tuple[Choice, ...]


def bounded(scaling: Scaling, features: Values) -> Values:
    """Scaled features (n, d), none of which counts for more than others."""
    own: Values = np.clip(scaling(features), -_FAR, _FAR)
    return own


def sides_of(choices: Sequence[PairChoice], describe: Describe, known: Sequence[Shown] = ()) -> Sides:
    """The sides of ``choices``; ``known`` are more pictures by which features are scaled."""
    shown: dict[str, tuple[Shown, ...]] = {}
    for own in choices:
        for name, pictures in zip(own.names, (own.left, own.right), strict=True):
            shown.setdefault(name, pictures)
    features = describe([*(picture for side in shown.values() for picture in side), *known])
    scaling = Scaling.of(features)
    scaled, ends = bounded(scaling, features), np.cumsum([len(side) for side in shown.values()])
    means = [scaled[end - len(side) : end].mean(0) for side, end in zip(shown.values(), ends, strict=True)]
    names = tuple(shown)
    numbered = tuple(Choice(names.index(own.names[0]), names.index(own.names[1]), own.won) for own in choices)
    return Sides(scaling, names, np.array(means), numbered)


def pair_measures(
    choices: Sequence[PairChoice], describe: Describe, base: Sequence[Shown], whole: Sequence[Shown]
) -> PairMeasures:
    """The measure that choices make in the features of ``describe``.

    Args:
        base, whole: the base's own pictures, and the whole LoRA's.
    Raises:
        MeasureError: for fewer than six choices.
        UnsureError: where they are foretold no better than by chance.
    """
    if len(choices) < FEWEST:
        raise MeasureError(f"{len(choices)} choices are too few to learn from; answer {FEWEST} pairs at least")
    sides = sides_of(choices, describe, [*base, *whole])
    preference, foretold = _fitted(sides)
    if not foretold.clears_chance:
        raise UnsureError(
            f"the choices say nothing yet that holds for others: {foretold.text()}, and a coin tells 50 %; "
            f"{_contradicted(sides) or 'answer more pairs'}"
        )
    notes = (f"votes: {foretold.text()}, none of which it had learnt from", *filter(None, [_contradicted(sides)]))
    pictures = [*(picture for own in choices for picture in (*own.left, *own.right)), *base]
    scaled = sides.scaling(describe(pictures))
    guard = Unfamiliar(describe, sides.scaling, scaled, usual_distance(scaled, [own.prompt for own in pictures]))
    return PairMeasures(_probe(sides, preference, describe, base, whole), guard, notes)


def second_pair_probe(
    choices: Sequence[PairChoice], describe: Describe, base: Sequence[Shown], whole: Sequence[Shown]
) -> SecondProbe:
    """What has to agree with the measure of :func:`pair_measures` and leads no search, by other features."""
    sides = sides_of(choices, describe, [*base, *whole])
    preference, foretold = _fitted(sides)
    if not foretold.clears_chance:
        return SecondProbe(
            None, f"second probe: {foretold.text()}, no better than a coin, so that nothing checks votes"
        )
    note = f"second probe: {foretold.text()}; it leads nothing, and a gain that it does not see is refused"
    return SecondProbe(_probe(sides, preference, describe, base, whole, SECOND), note)


def _probe(
    sides: Sides,
    preference: Preference,
    describe: Describe,
    base: Sequence[Shown],
    whole: Sequence[Shown],
    name: str = "votes",
) -> PairProbe:
    mine, other = (float(preference.mean(bounded(sides.scaling, describe(own))).mean()) for own in (base, whole))
    compared = preference.mean(sides.features)
    unit = max(float(compared.std()), 1e-9)
    lowest = min(float(np.quantile((other - compared) / unit, _BEST)), (other - mine) / unit)
    return PairProbe(describe, sides.scaling, preference.weights, other, unit, lowest, name)


def _fitted(sides: Sides) -> tuple[Preference, Foretold]:
    """The posterior, and how many choices are foretold by the others, a tenth at a time."""
    preference = fit_preference(sides.features, sides.choices, FEATURE_KERNELS)
    folds = np.random.default_rng(0).permutation(len(sides.choices)) % min(_FOLDS, len(sides.choices))
    right = decided = 0
    for fold in range(int(folds.max()) + 1):
        others = [own for own, at in zip(sides.choices, folds, strict=True) if at != fold]
        left_out = [own for own, at in zip(sides.choices, folds, strict=True) if at == fold and own.won != 0.5]
        utilities = fit_preference(sides.features, others, [preference.kernel]).mean(sides.features)
        decided += len(left_out)
        right += sum((utilities[own.left] > utilities[own.right]) == (own.won > 0.5) for own in left_out)
    return preference, Foretold(right, decided)


def _contradicted(sides: Sides) -> str:
    """A sentence on choices that cannot all be meant: of one pair both ways, or of three sides in a circle."""
    better = {
        (own.left, own.right) if own.won > 0.5 else (own.right, own.left) for own in sides.choices if own.won != 0.5
    }
    both = sum((two, one) in better for one, two in better) // 2
    single = {(one, two) for one, two in better if (two, one) not in better}
    circles = sum((three, one) in single for one, two in single for start, three in single if start == two) // 3
    said = [f"{both} {'pair was' if both == 1 else 'pairs were'} answered both ways"] if both else []
    if circles:
        times = "1 time" if circles == 1 else f"{circles} times"
        said.append(f"{times} one side was above a second, that above a third, and the third above the first")
    return f"votes contradict themselves: {' and '.join(said)}; each counts as it was given" if said else ""
