"""Which epoch to take, by a lexicographic rule over figures that know their noise.

First whole epochs are ruled out, for reasons that no style makes up for:

1. they break: the 0.9 test fails;
2. they copy: more of their pictures copy training pictures than chance would mark;
3. they disobey: of what the base obeys they have lost more than a third, beyond noise;
4. they repeat themselves: seeds differ less than half as much as the base's, beyond noise.

Where a reason would rule out every epoch, those stay that are best by it, and the sentence says so. Then figures are
taken one after another, and each leaves the epochs that are as good as its best:

5. votes, where people have given any;
6. closeness to held-out pictures, with a tolerance: all that keep 95 % of the closest one's gain over the base, so that
   a hair of style does not outweigh what follows;
7. obedience, then defects;
8. closeness again, now without the tolerance.

Of what is left the earliest is taken: it is the least trained.

Noise has two levels, since there are two mistakes to make. An epoch is *ruled out*, or dropped for a few votes, only
beyond the limit of :func:`.figures.clearly`, which is shared out among all epochs that are compared. But not to be
shown worse is not to be as good: where there are few pictures, an untrained epoch is not shown to be worse either. So
*as good* is what lies within one standard error of the best, as in the one-standard-error rule of cross-validation
(Breiman and others 1984); it is the error of the difference, picture by picture. And a difference in
obedience or a defect of less than a twentieth of the spread over pictures is none, since pictures that are drawn alike
make errors so small that a hair would decide.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from loratools.measures.estimate import Estimate
from loratools.tune.epochs.figures import Figure, Ranking, clearly, leader
from loratools.tune.epochs.reasons import BaseDefect, Doubt, Reason, RunWarning, Why, sentence

FALSE_COPIES = 0.01  # of pictures that copy nothing are marked as copies all the same
_LEVEL = 0.05  # chance that an epoch that copies nothing is ruled out as a copier, of all epochs together
_BASES = 0.5  # of a defect: where the base shows as much by itself, that is said
_LEAST = 0.25  # of a defect's spread over pictures: less than this in the base's is none


@dataclass(frozen=True)
class Thresholds:
    """The numbers of the rule.

    Attributes:
        keep: of the closest epoch's gain over the base, in step 6.
        as_good: standard errors of the difference from the best within which a figure is as good.
        least: of the spread of obedience or a defect over an epoch's pictures; a smaller difference is none, however
            certain it is.
        most_lost: part of the base's obedience, in step 3.
        least_diversity: part of the base's diversity, in step 4.
    """

    keep: float = 0.95
    as_good: float = 1.0
    least: float = 0.05
    most_lost: float = 1 / 3
    least_diversity: float = 0.5


@dataclass(frozen=True)
class WeightTest:
    """What the 0.9 test says of an epoch: the weight up to 0.9 at which it breaks, if any, and how."""

    breaks: float | None
    text: str


@dataclass(frozen=True)
class Copies:
    """How many of ``n`` pictures of an epoch copy a training picture, and which one they copy most often."""

    count: int
    n: int
    image: str = ""

    def beyond_chance(self, epochs: int) -> bool:
        """Whether so many are more than marks by chance would be: the binomial tail at :data:`FALSE_COPIES`, its level
        shared out among the epochs. A single one is no habit."""
        chances = (
            math.comb(self.n, k) * FALSE_COPIES**k * (1 - FALSE_COPIES) ** (self.n - k) for k in range(self.count)
        )
        return self.count > 1 and 1 - sum(chances) < _LEVEL / max(1, epochs)


@dataclass(frozen=True, eq=False)
class Evidence:
    """All that the rule looks at; what is None or empty was not measured, and is passed over.

    Attributes:
        numbers: the epochs' own numbers, in order; all other fields follow this order.
        votes: a ranking by people.
        closeness: to held-out pictures, or what stands in for it.
    """

    numbers: tuple[int, ...]
    tested: tuple[WeightTest, ...] = ()
    copies: tuple[Copies, ...] = ()
    votes: Ranking | None = None
    closeness: Figure | None = None
    obedience: Figure | None = None
    defects: tuple[Figure, ...] = ()
    diversity: Figure | None = None


@dataclass(frozen=True)
class Decision:
    """The recommended epoch's number, the sentence, every epoch's reason by number, and warnings about the run.

    Attributes:
        notes: on what no choice of an epoch changes.
    """

    epoch: int
    sentence: str
    reasons: Mapping[int, Reason]
    warnings: tuple[RunWarning, ...] = ()
    notes: tuple[BaseDefect, ...] = ()


def decide(evidence: Evidence, thresholds: Thresholds = Thresholds()) -> Decision:
    """Apply the rule; there is at least one epoch."""
    rule = _Rule(evidence, thresholds, list(range(len(evidence.numbers))))
    rule.rule_out()
    rule.compare()
    return rule.decision()


@dataclass
class _Rule:
    """The rule at work: indices of the epochs that are ``left``, and the reasons of those that are not."""

    evidence: Evidence
    thresholds: Thresholds
    left: list[int]
    reasons: dict[int, Reason] = field(default_factory=dict)
    warnings: list[RunWarning] = field(default_factory=list)

    def rule_out(self) -> None:
        """Steps 1 to 4."""
        own = self.evidence
        self._guard(self._broken(), "all break", _Holds(own.tested))
        self._guard(self._copying(), "all copy", None)
        self._guard(self._disobeying(), "none obeys", own.obedience)
        self._guard(self._repeating(), "all repeat", own.diversity)

    def compare(self) -> None:
        """Steps 5 to 8."""
        own = self.evidence
        if own.votes is not None:
            self._drop_worse(own.votes, "votes", "is liked less")
        if own.closeness is not None:
            self._check_gain(own.closeness)
            self._drop_behind(own.closeness, "behind", _less_of(own.closeness), self._of_gain(self.thresholds.keep))
        if own.obedience is not None:
            self._drop_behind(own.obedience, "obeys less", "follows the prompt less", self._of_spread)
        for figure in own.defects:
            self._drop_behind(figure, "defects", f"is worse in {figure.name}", self._of_spread)
        if own.closeness is not None:
            self._drop_behind(own.closeness, "behind", _less_of(own.closeness), self._of_gain(1.0))

    def decision(self) -> Decision:
        """The earliest of what is left; the others are as good."""
        chosen, numbers, figure = min(self.left), self.evidence.numbers, self.evidence.closeness
        for index in self.left:
            lead = figure.difference(index, chosen) if figure is not None and index != chosen else None
            self.reasons[index] = Reason("as good", "is as good within noise", figure.name if figure else "", lead)
        self.reasons[chosen] = Reason("recommended")
        reasons = {numbers[index]: self.reasons[index] for index in sorted(self.reasons)}
        text = sentence(numbers[chosen], reasons, self.warnings)
        return Decision(numbers[chosen], text, reasons, tuple(self.warnings), self._of_base(chosen))

    def _of_base(self, chosen: int) -> tuple[BaseDefect, ...]:
        """The defects that the base itself shows: half of the ``chosen`` epoch's and more."""
        notes = []
        for figure in self.evidence.defects:
            base, own = figure.of_base(), figure.own(chosen)
            if base is None or figure.better != "lower":
                continue
            least = max(_LEAST * float(np.nanstd(figure.values)), self.thresholds.as_good * base.standard_error)
            if base.mean > least and base.mean >= _BASES * own.mean:
                notes.append(BaseDefect(figure.name, base, own, self.evidence.numbers[chosen]))
        return tuple(notes)

    def _guard(self, failing: Mapping[int, Reason], all_fail: Doubt, ranking: Ranking | None) -> None:
        """Rule out the ``failing`` epochs; if these are all, only those that are worse than the best by ``ranking``."""
        failed = {index: reason for index, reason in failing.items() if index in self.left}
        if failed and len(failed) == len(self.left):
            self.warnings.append(RunWarning(all_fail))
            worse = self._worse(ranking) if ranking is not None else {}
            failed = {index: reason for index, reason in failed.items() if index in worse}
        self._drop(failed)

    def _broken(self) -> dict[int, Reason]:
        return {
            index: Reason("breaks", f"breaks ({own.text})", "0.9 test")
            for index, own in enumerate(self.evidence.tested)
            if own.breaks is not None
        }

    def _copying(self) -> dict[int, Reason]:
        copies = self.evidence.copies
        return {
            index: Reason("copies", f"copies {own.image} ({own.count} of {own.n} pictures)", "copies")
            for index, own in enumerate(copies)
            if own.beyond_chance(len(copies))
        }

    def _disobeying(self) -> dict[int, Reason]:
        return self._lost(self.evidence.obedience, self.thresholds.most_lost, "disobeys", "has lost the prompt")

    def _repeating(self) -> dict[int, Reason]:
        lost = 1 - self.thresholds.least_diversity
        return self._lost(self.evidence.diversity, lost, "repeats itself", "draws nearly one picture for all seeds")

    def _lost(self, figure: Figure | None, part: float, why: Why, text: str) -> dict[int, Reason]:
        """The epochs that have lost more than a ``part`` of the base's figure, beyond noise."""
        base = figure.of_base() if figure is not None else None
        if figure is None or base is None:
            return {}
        lost = {}
        for index in self.left:
            loss = figure.loss_from_base(index)
            if loss is not None and clearly(_less(loss, part * abs(base.mean)), len(self.left)):
                lost[index] = Reason(why, text, figure.name, figure.from_base(index))
        return lost

    def _drop_worse(self, ranking: Ranking, why: Why, text: str) -> None:
        """Drop what is worse than the best beyond noise."""
        worse = self._worse(ranking)
        self._drop({index: Reason(why, text, ranking.name, difference) for index, difference in worse.items()})

    def _worse(self, ranking: Ranking) -> dict[int, Estimate]:
        """What is worse than the best beyond noise, and by how much.

        The best was picked by the same figure, so that any pair of epochs, either way round, could have been compared.
        """
        best, pairs = leader(ranking, self.left), len(self.left) * (len(self.left) - 1)
        return {
            index: ranking.lead(index, best)
            for index in self.left
            if index != best and clearly(ranking.lead(best, index), pairs)
        }

    def _drop_behind(self, figure: Figure, why: Why, text: str, negligible: Callable[[Figure], float]) -> None:
        """Drop what is not as good as the best: behind by more than noise and what is ``negligible``."""
        best, allowed, behind = leader(figure, self.left), negligible(figure), {}
        for index in self.left:
            lead = figure.lead(best, index)
            noise = 0.0 if math.isnan(lead.standard_error) else self.thresholds.as_good * lead.standard_error
            if index != best and lead.mean > allowed + noise:
                behind[index] = Reason(why, text, figure.name, figure.difference(index, best))
        self._drop(behind)

    def _of_gain(self, keep: float) -> Callable[[Figure], float]:
        """All but ``keep`` of the best epoch's gain over the base."""

        def negligible(figure: Figure) -> float:
            loss = figure.loss_from_base(leader(figure, self.left))
            return 0.0 if loss is None else (1 - keep) * max(0.0, -loss.mean)

        return negligible

    def _of_spread(self, figure: Figure) -> float:
        """A small part of the spread over pictures."""
        return self.thresholds.least * figure.spread(self.left)

    def _check_gain(self, figure: Figure) -> None:
        """Warn where not even the closest epoch is closer than the base beyond noise."""
        loss = figure.loss_from_base(leader(figure, self.left))
        if loss is not None and not clearly(Estimate(-loss.mean, loss.standard_error, loss.n), len(self.left)):
            self.warnings.append(RunWarning("no gain", figure.name))

    def _drop(self, dropped: Mapping[int, Reason]) -> None:
        self.reasons.update(dropped)
        self.left = [index for index in self.left if index not in dropped]


def _less_of(figure: Figure) -> str:
    return f"has a higher {figure.name}" if figure.better == "lower" else f"has less {figure.name}"


def _less(estimate: Estimate, by: float) -> Estimate:
    return Estimate(estimate.mean - by, estimate.standard_error, estimate.n)


@dataclass(frozen=True)
class _Holds:
    """Epochs by the weight at which they break."""

    tested: Sequence[WeightTest]
    name: str = "0.9 test"

    def score(self, epoch: int) -> float:
        weight = self.tested[epoch].breaks
        return math.inf if weight is None else weight

    def lead(self, one: int, two: int) -> Estimate:
        first, second = self.score(one), self.score(two)
        return Estimate(0.0 if first == second else first - second, 0.0, 1)
