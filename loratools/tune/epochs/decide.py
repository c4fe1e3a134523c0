"""Which epoch to take, and why, in one sentence: a lexicographic rule over figures that know their noise.

First whole epochs are ruled out, for reasons that no style makes up for:

1. they break: the 0.9 test fails;
2. they copy: more of their pictures copy training pictures than chance would mark;
3. they disobey: of what the base obeys they have lost more than a third, beyond noise;
4. they repeat themselves: seeds differ less than half as much as the base's, beyond noise.

Where a reason would rule out every epoch, those stay that are best by it, and the sentence says so. Then figures are
taken one after another, and each leaves the epochs that it cannot tell from its best:

5. votes, where people have given any;
6. closeness to held-out pictures: first with a tolerance (95 % of the best one's gain over the base), so that a hair of
   style does not outweigh what follows;
7. obedience, then defects;
8. closeness again, now without the tolerance.

Of what is left the earliest is taken: it is the least trained. "Cannot tell" has two levels. To call an epoch worse, and
to drop it, takes a difference beyond the limit of :func:`.figures.clearly`, which grows with the number of epochs. To
call an epoch *as good* as the best (8.) it must be within one standard error of it, as in the one-standard-error rule of
cross-validation (Breiman et al. 1984): the limit alone would let an untrained epoch pass for the best wherever there are
few pictures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from loratools.measures.estimate import Estimate
from loratools.tune.epochs.figures import Figure, Ranking, clearly, leader

KEEP = 0.95  # of the closest epoch's gain over the base
MOST_LOST = 1 / 3  # of the base's obedience
LEAST_DIVERSITY = 0.5  # of the base's
FALSE_COPIES = 0.01  # of pictures that copy nothing are marked as copies all the same
_LEVEL = 0.05
_AS_GOOD = 1.0  # standard errors

Why = Literal["recommended", "as good", "breaks", "copies", "disobeys", "repeats", "votes", "behind", "defects"]


@dataclass(frozen=True)
class Tested:
    """What the 0.9 test says of an epoch: the weight at which it breaks, if any up to 0.9, and how."""

    breaks: float | None
    text: str


@dataclass(frozen=True)
class Copies:
    """How many of ``n`` pictures of an epoch copy a training picture, and which one they copy most often."""

    count: int
    n: int
    image: str = ""


@dataclass(frozen=True, eq=False)
class Evidence:
    """All that the rule looks at; what is None or empty was not measured, and is passed over.

    Attributes:
        numbers: the epochs' own numbers, in order; all other fields follow this order.
        votes: a ranking by people.
        closeness: to held-out pictures; by default of style.
    """

    numbers: tuple[int, ...]
    tested: tuple[Tested, ...] = ()
    copies: tuple[Copies, ...] = ()
    votes: Ranking | None = None
    closeness: Figure | None = None
    obedience: Figure | None = None
    defects: tuple[Figure, ...] = ()
    diversity: Figure | None = None


@dataclass(frozen=True)
class Reason:
    """Why an epoch is recommended, as good, or not: a word for programs, and a clause for people."""

    why: Why
    text: str
    figure: str = ""
    difference: Estimate | None = None


@dataclass(frozen=True)
class Decision:
    """The recommended epoch's number, the sentence, every epoch's reason, and warnings about the whole run."""

    epoch: int
    sentence: str
    reasons: Mapping[int, Reason]
    warnings: tuple[str, ...] = ()


def decide(evidence: Evidence) -> Decision:
    """Apply the rule; there is at least one epoch."""
    rule = _Rule(evidence)
    rule.guards()
    rule.goals()
    return rule.decision()


@dataclass
class _Rule:
    """The rule at work: indices of the epochs that are left, and the reasons of those that are not."""

    evidence: Evidence
    left: list[int] = field(default_factory=list)
    reasons: dict[int, Reason] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.left = list(range(len(self.evidence.numbers)))

    def guards(self) -> None:
        """Rule out what breaks, copies, disobeys or repeats itself."""
        self._guard(self._broken(), "every epoch breaks in the 0.9 test; train with a lower rate", self._longest())
        self._guard(self._copying(), "every epoch copies training pictures; train shorter, or on more pictures", None)
        self._guard(self._disobeying(), "no epoch follows the prompt as the base does", self.evidence.obedience)
        self._guard(self._repeating(), "every epoch draws nearly one picture for all seeds", self.evidence.diversity)

    def goals(self) -> None:
        """Figure by figure, leave the epochs that it cannot tell from its best."""
        own = self.evidence
        if own.votes is not None:
            self._drop_behind(own.votes, "votes", lambda lead: "is liked less")
        if own.closeness is not None:
            self._gate(own.closeness)
        if own.obedience is not None:
            self._drop_behind(own.obedience, "disobeys", _clause("follows the prompt less", own.obedience.name))
        for figure in own.defects:
            self._drop_behind(figure, "defects", _clause(f"has more {figure.name}", ""))
        if own.closeness is not None:
            self._keep_as_good(own.closeness)

    def decision(self) -> Decision:
        """The earliest of what is left; the others are as good."""
        chosen, numbers = min(self.left), self.evidence.numbers
        for index in self.left:
            lead = self._lead(index, chosen)
            self.reasons[index] = Reason("as good", "is as good within noise", *lead)
        self.reasons[chosen] = Reason("recommended", "")
        reasons = {numbers[index]: self.reasons[index] for index in sorted(self.reasons)}
        return Decision(
            numbers[chosen], sentence(numbers[chosen], reasons, self.warnings), reasons, tuple(self.warnings)
        )

    def _lead(self, one: int, two: int) -> tuple[str, Estimate | None]:
        figure = self.evidence.closeness
        return ("", None) if figure is None or one == two else (figure.name, figure.difference(one, two))

    def _guard(self, failing: Mapping[int, Reason], all_fail: str, ranking: Ranking | None) -> None:
        failed = {index: reason for index, reason in failing.items() if index in self.left}
        if not failed:
            return
        if len(failed) < len(self.left):
            self._drop(failed)
            return
        self.warnings.append(all_fail)
        if ranking is not None:
            best = leader(ranking, self.left)
            behind = [index for index in self.left if clearly(ranking.lead(best, index), len(self.left) - 1)]
            self._drop({index: failed[index] for index in behind})

    def _broken(self) -> dict[int, Reason]:
        return {
            index: Reason("breaks", own.text)
            for index, own in enumerate(self.evidence.tested)
            if own.breaks is not None
        }

    def _longest(self) -> Ranking | None:
        return _Holds(self.evidence.tested) if self.evidence.tested else None

    def _copying(self) -> dict[int, Reason]:
        copies = self.evidence.copies
        return {
            index: Reason("copies", f"copies {own.image or 'a training picture'} ({own.count} of {own.n} pictures)")
            for index, own in enumerate(copies)
            if beyond_chance(own, len(copies))
        }

    def _disobeying(self) -> dict[int, Reason]:
        figure = self.evidence.obedience
        base = figure.of_base() if figure is not None else None
        if figure is None or base is None:
            return {}
        return self._beyond(figure, MOST_LOST * abs(base.mean), "disobeys", "has lost the prompt")

    def _repeating(self) -> dict[int, Reason]:
        figure = self.evidence.diversity
        base = figure.of_base() if figure is not None else None
        if figure is None or base is None:
            return {}
        return self._beyond(
            figure, (1 - LEAST_DIVERSITY) * abs(base.mean), "repeats", "draws nearly one picture for all seeds"
        )

    def _beyond(self, figure: Figure, margin: float, why: Why, text: str) -> dict[int, Reason]:
        """The epochs that are worse than the base by more than ``margin``, beyond noise."""
        beyond = {}
        for index in self.left:
            lost = figure.loss_from_base(index)
            if lost is not None:
                over = Estimate(lost.mean - margin, lost.standard_error, lost.n)
                if clearly(over, len(self.left)):
                    beyond[index] = Reason(why, text, figure.name, figure.from_base(index))
        return beyond

    def _drop_behind(self, ranking: Ranking, why: Why, text: Callable[[Estimate], str]) -> None:
        best = leader(ranking, self.left)
        dropped = {}
        for index in self.left:
            lead = ranking.lead(best, index)
            if index != best and clearly(lead, len(self.left) - 1):
                difference = (
                    ranking.difference(index, best) if isinstance(ranking, Figure) else ranking.lead(index, best)
                )
                dropped[index] = Reason(why, text(lead), ranking.name, difference)
        self._drop(dropped)

    def _gate(self, figure: Figure) -> None:
        """Drop what has clearly less than :data:`KEEP` of the best one's gain over the base, and what is behind by more
        than that and one standard error."""
        best = leader(figure, self.left)
        base = figure.of_base()
        gain = (
            0.0
            if base is None
            else max(0.0, figure.score(best) - (base.mean if figure.better == "higher" else -base.mean))
        )
        dropped = {}
        for index in self.left:
            lead = figure.lead(best, index)
            if index != best and lead.mean > (1 - KEEP) * gain + _AS_GOOD * _error(lead):
                dropped[index] = self._behind(figure, index, best)
        self._drop(dropped)

    def _keep_as_good(self, figure: Figure) -> None:
        best = leader(figure, self.left)
        behind = [
            index for index in self.left if figure.lead(best, index).mean > _AS_GOOD * _error(figure.lead(best, index))
        ]
        self._drop({index: self._behind(figure, index, best) for index in behind})

    def _behind(self, figure: Figure, index: int, best: int) -> Reason:
        text = (
            "is further from the held-out pictures"
            if figure.name != "validation loss"
            else "has a higher validation loss"
        )
        return Reason("behind", text, figure.name, figure.difference(index, best))

    def _drop(self, dropped: Mapping[int, Reason]) -> None:
        self.reasons.update(dropped)
        self.left = [index for index in self.left if index not in dropped]


@dataclass(frozen=True)
class _Holds:
    """Epochs by the weight at which they break."""

    tested: Sequence[Tested]
    name: str = "0.9 test"

    def score(self, epoch: int) -> float:
        weight = self.tested[epoch].breaks
        return math.inf if weight is None else weight

    def lead(self, one: int, two: int) -> Estimate:
        first, second = self.score(one), self.score(two)
        return Estimate(0.0 if first == second else first - second, 0.0, 1)


def beyond_chance(copies: Copies, epochs: int) -> bool:
    """Whether so many copies are more than marks by chance would be: the binomial tail at :data:`FALSE_COPIES`, shared
    out among the epochs."""
    if copies.count < 2:
        return False  # one look-alike is no habit
    tail = 1 - sum(
        math.comb(copies.n, k) * FALSE_COPIES**k * (1 - FALSE_COPIES) ** (copies.n - k) for k in range(copies.count)
    )
    return tail < _LEVEL / max(1, epochs)


def sentence(chosen: int, reasons: Mapping[int, Reason], warnings: Sequence[str] = ()) -> str:
    """``epoch 6: 7 and 8 are as good within noise, 9 copies 014.png (5 of 32 pictures)``.

    Epochs of one reason stand together, those that come closest to being taken first.
    """
    groups: dict[str, list[int]] = {}
    order: dict[str, int] = {}
    ranks = ("as good", "behind", "defects", "votes", "disobeys", "repeats", "copies", "breaks")
    for number, reason in reasons.items():
        if reason.why == "recommended":
            continue
        text = (
            "copies"
            if reason.why == "copies" and len([r for r in reasons.values() if r.why == "copies"]) > 2
            else reason.text
        )
        text = "copies training pictures" if text == "copies" else text
        groups.setdefault(text, []).append(number)
        order.setdefault(text, ranks.index(reason.why))
    clauses = [
        f"{numbers_text(groups[text])} {_plural(text, len(groups[text]))}"
        for text in sorted(groups, key=order.__getitem__)
    ]
    if not clauses:
        clauses = ["the only epoch"] if len(reasons) == 1 else []
    told = f"epoch {chosen}: {', '.join(clauses)}" if clauses else f"epoch {chosen}"
    return "; ".join([told, *warnings])


def numbers_text(numbers: Sequence[int]) -> str:
    """``1 to 4, 7 and 9``."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    texts = [
        text for part in parts for text in ([str(n) for n in part] if len(part) < 3 else [f"{part[0]} to {part[-1]}"])
    ]
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"


_PLURALS = {"is": "are", "has": "have", "copies": "copy", "follows": "follow", "draws": "draw", "breaks": "break"}


def _plural(text: str, count: int) -> str:
    first, _, rest = text.partition(" ")
    return f"{_PLURALS.get(first, first)} {rest}" if count > 1 and first in _PLURALS else text


def _clause(text: str, name: str) -> Callable[[Estimate], str]:
    return lambda lead: text


def _error(lead: Estimate) -> float:
    return 0.0 if math.isnan(lead.standard_error) else lead.standard_error
