"""Why an epoch is taken or not, epoch by epoch, and all of it in one sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from loratools.measures.estimate import Estimate

Why = Literal[
    "recommended",
    "as good",
    "behind",
    "defects",
    "obeys less",
    "votes",
    "disobeys",
    "repeats itself",
    "copies",
    "breaks",
]  # those that come closest to being taken first
RULED_OUT: tuple[Why, ...] = ("disobeys", "repeats itself", "copies", "breaks")
_NAMED = 2  # so many epochs that copy are told one by one, with what they copy
_PLURALS = {"is": "are", "has": "have", "copies": "copy", "follows": "follow", "draws": "draw", "breaks": "break"}


@dataclass(frozen=True)
class Reason:
    """Why an epoch is recommended, as good, or not.

    Attributes:
        text: a clause that follows the epoch's number: ``copies 014.png (5 of 32 pictures)``.
        figure: what decided; empty where no single figure did.
        difference: of that figure, from the epoch that was best by it; None where there is no such difference.
    """

    why: Why
    text: str = ""
    figure: str = ""
    difference: Estimate | None = None


Doubt = Literal["all break", "all copy", "none obeys", "all repeat", "no gain"]
_DOUBTS: Mapping[Doubt, str] = {
    "all break": "every epoch breaks in the 0.9 test; train at a lower rate",
    "all copy": "every epoch copies training pictures; train shorter, or on more of them",
    "none obeys": "no epoch follows the prompt as the base does",
    "all repeat": "every epoch draws nearly one picture for all seeds",
    "no gain": "no epoch is clearly better than the base in {figure}; train longer",
}


@dataclass(frozen=True)
class RunWarning:
    """What is wrong with all epochs of a run, of which one is recommended all the same; ``figure`` says by what."""

    kind: Doubt
    figure: str = ""

    def __str__(self) -> str:
        return _DOUBTS[self.kind].format(figure=self.figure)


@dataclass(frozen=True)
class BaseDefect:
    """A defect that the base's own pictures show as well, so that no epoch mends all of it.

    Attributes:
        figure: the defect's name.
        base: in the base's own pictures, and ``own`` in those of ``epoch``.
    """

    figure: str
    base: Estimate
    own: Estimate
    epoch: int

    def __str__(self) -> str:
        return (
            f"the base itself shows this: {self.figure} is {self.base.text()} in its own pictures and "
            f"{self.own.text()} in those of epoch {self.epoch}; no epoch mends the base's part"
        )


def sentence(chosen: int, reasons: Mapping[int, Reason], warnings: Sequence[RunWarning] = ()) -> str:
    """``epoch 6: 7 and 8 are as good within noise, 9 copies 014.png (5 of 32 pictures)``.

    Epochs of one reason stand together, those that come closest to being taken first; warnings follow.
    """
    copying = [number for number, reason in reasons.items() if reason.why == "copies"]
    clauses: dict[tuple[int, str], list[int]] = {}
    for number, reason in reasons.items():
        many = reason.why == "copies" and len(copying) > _NAMED
        text = "copies training pictures" if many else reason.text
        if reason.why != "recommended":
            clauses.setdefault((get_args(Why).index(reason.why), text), []).append(number)
    told = [f"{numbers_text(clauses[place])} {_plural(place[1], len(clauses[place]))}" for place in sorted(clauses)]
    if len(reasons) == 1:
        told = ["the run has no other"]
    return "; ".join([f"epoch {chosen}: {', '.join(told)}", *map(str, warnings)])


def numbers_text(numbers: Sequence[int]) -> str:
    """``1 to 4, 7 and 9``."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    texts: list[str] = []
    for part in parts:
        texts += map(str, part) if len(part) < 3 else [f"{part[0]} to {part[-1]}"]
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"


def counted(count: int, what: str) -> str:
    """``1 seed``, ``2 seeds``."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _plural(text: str, count: int) -> str:
    """A clause for several epochs."""
    first, _, rest = text.partition(" ")
    return f"{_PLURALS.get(first, first)} {rest}" if count > 1 else text
