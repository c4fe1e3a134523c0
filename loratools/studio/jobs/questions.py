"""What a search by votes asks a person: the round of its folder that is not answered yet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from loratools.errors import LoratoolsError, StudioError
from loratools.tune.asking.round_page import RoundPage

_POINTS = {"left": 1.0, "none": 0.5, "right": 0.0}


@dataclass(frozen=True)
class OpenRound:
    """A round with questions.

    Attributes:
        left: the pairs that are not answered, in the order in which they are asked.
        answers: of the others: keys of left and right, and what the left one won.
        total: pairs of the round.
    """

    page: RoundPage
    left: tuple[tuple[str, str], ...]
    answers: tuple[tuple[str, str, float], ...]
    total: int

    def file(self, key: str) -> Path:
        """The picture of a key."""
        return next(self.page.folder / cell.file for cell in self.page.cells() if cell.key == key)

    def answered(self, left: str, right: str, winner: Literal["left", "right", "none"]) -> OpenRound:
        """Keep an answer, in the round's own ``votes.json``.

        Raises:
            StudioError: for a pair that is not asked about.
        """
        if (left, right) not in self.left:
            raise StudioError("this pair is not asked about", remedy="reload the page")
        answers = (*self.answers, (left, right, _POINTS[winner]))
        self.page.answer({}, answers)
        return OpenRound(self.page, tuple(own for own in self.left if own != (left, right)), answers, self.total)


def open_round(folder: Path) -> OpenRound | None:
    """The newest round of the search in ``folder``, if some of its pairs are not answered; else None."""
    rounds = sorted(folder.glob("votes/round-*/round.json"), key=lambda file: int(file.parent.name.rpartition("-")[2]))
    if not rounds:
        return None
    page = RoundPage(rounds[-1].parent)
    try:
        pairs, votes = page.pairs(), page.votes()
    except LoratoolsError:
        return None
    answers = () if votes is None else tuple((own.left, own.right, own.points) for own in votes.pairs)
    done = {frozenset(own[:2]) for own in answers}
    left = tuple(pair for pair in pairs if frozenset(pair) not in done)
    return OpenRound(page, left, answers, len(pairs)) if left else None
