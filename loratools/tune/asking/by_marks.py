"""Asking for marks: pictures that a person gives stars."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from loratools.errors import MeasureError, NothingToAskError
from loratools.measures.build import MeasureSet
from loratools.measures.measure import Shown
from loratools.measures.probe.marked import BAD_STARS, GOOD_STARS, LOST_STARS, Marked
from loratools.measures.votes.votes_file import Votes
from loratools.tune.asking.kept_draws import KeptDraws, picture_key
from loratools.tune.asking.round_page import Cell, PageContent, Part, RoundPage
from loratools.tune.asking.rounds import Answered
from loratools.tune.asking.to_mark import to_mark
from loratools.tune.history import Generation
from loratools.tune.problem.prompts import Shot
from loratools.tune.report.result import TuneResult

_FIRST, _LATER = 72, 40  # pictures that are shown for marking, in the first round and in each later one
_ACROSS = 9  # pictures in a row of the page
Marker = Callable[[int, Sequence[Shown]], Sequence[int]]  # round, pictures -> stars of each, 0 for none


class MakeMarkedMeasures(Protocol):
    """What makes measures of marks."""

    def __call__(self, drawn: Sequence[Shown], whole: Sequence[Shown], marked: Marked) -> MeasureSet:
        """Of the base's, of the whole LoRA's and of marked pictures."""
        ...


@dataclass(frozen=True, eq=False)
class MarksAsker:
    """Asks for stars.

    Attributes:
        shots: of the search.
        given: whether there are marks without asking, so that those that are asked for may be of one kind.
        marker: marks in place of a person, who else does so on a page.
        seed: of the choice of pictures.
    """

    shots: Sequence[Shot]
    symptoms: tuple[str, ...]
    make_measures: MakeMarkedMeasures
    given: bool = False
    marker: Marker | None = None
    seed: int = 1
    folder: str = "marks"
    wanted: str = "mark pictures by stars"

    def content(
        self, number: int, generations: Sequence[Generation], answered: Sequence[Answered], draws: KeptDraws
    ) -> PageContent:
        """Pictures of every prompt, in columns whose place says nothing."""
        known = {cell.key for own in answered for cell in own.page.cells()}
        chosen = to_mark(generations, self.shots, _FIRST if number == 1 else _LATER, self.seed, known)
        if not chosen:
            raise NothingToAskError(
                "every picture that was drawn has been shown for marking; give more prompts or seeds"
            )
        cells: list[Cell] = []
        counts: dict[str, int] = {}
        for candidate in chosen:
            at = counts.setdefault(candidate.shot.prompt, 0)
            counts[candidate.shot.prompt] = at + 1
            more = f", row {at // _ACROSS + 1}" if at >= _ACROSS else ""
            key = picture_key(candidate.point, candidate.shot, False)
            row, column = f"prompt {len(counts)}{more}", str(at % _ACROSS + 1)
            cells.append(Cell(key, row, column, f"../drawn/{key}.png", (Part(key, candidate.shot),)))
        symptoms = " and ".join(self.symptoms)
        enough = "twenty good and twenty bad ones, both of the same prompts, are enough"
        about = (
            f"{GOOD_STARS} or 5 stars: no bad {symptoms}, and in the LoRA's style",
            f"{LOST_STARS} stars: no bad {symptoms}, but the style is lost",
            f"1 or {BAD_STARS} stars: bad {symptoms}; none: you cannot tell",
            enough if number == 1 else "ten good and ten bad ones are enough; this is where the search has come to",
            "then E exports votes.json: save it in this page's folder, and run the same command again",
        )
        height, width = draws.opened(cells[0].key, chosen[0].shot).pixels.shape[:2]
        return PageContent(f"marks, round {number}: {symptoms}", about, tuple(cells), (width, height))

    def reply(self, number: int, page: RoundPage, draws: KeptDraws) -> None:
        """By the marker, if there is one."""
        if self.marker is not None:
            cells = page.cells()
            stars = self.marker(number, [_opened(cell, draws) for cell in cells])
            page.answer({cell.key: own for cell, own in zip(cells, stars, strict=True) if own})

    def complete(self, votes: Votes) -> bool:
        """Any stars; whether they tell anything is another question."""
        return bool(votes.stars)

    def measures(
        self, base: Sequence[Shown], whole: Sequence[Shown], answered: Sequence[Answered], draws: KeptDraws
    ) -> MeasureSet:
        """By the pictures of all rounds' marks.

        Raises:
            MeasureError: if all marks are of one kind, or tell nothing.
        """
        marks: dict[str, list[Shown]] = {"good": [], "bad": [], "lost": []}
        for own in answered:
            for cell in own.page.cells():
                stars = own.votes.stars.get(cell.key, 0)
                if stars:
                    kind = "good" if stars >= GOOD_STARS else "bad" if stars <= BAD_STARS else "lost"
                    marks[kind].append(_opened(cell, draws))
        if answered and not self.given:
            _check_kinds(len(marks["good"]) + len(marks["lost"]), len(marks["bad"]), answered[0].page)
        return self.make_measures(
            base, whole, marked=Marked(tuple(marks["good"]), tuple(marks["bad"]), tuple(marks["lost"]))
        )

    def enough(self, result: TuneResult, answered: Sequence[Answered], draws: KeptDraws) -> tuple[bool, str]:
        """Every round is asked for: where the search has come to is where a probe may be fooled."""
        return False, ""


def _check_kinds(good: int, bad: int, page: RoundPage) -> None:
    for count, word, wanted in ((good, "good", "4 or 5"), (bad, "bad", "1 or 2")):
        if not count:
            raise MeasureError(
                f"no picture is marked {word}, and what is bad shows beside what is good alone; give {wanted} stars to "
                f"some in {page.page}, and save the votes as {page.answers} again"
            )


def _opened(cell: Cell, draws: KeptDraws) -> Shown:
    (part,) = cell.parts
    return draws.opened(part.key, part.shot)
