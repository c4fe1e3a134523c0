"""A tune by marks: pictures of its own are marked by a person, the search is led by what the marks say, and what the
search has come to is marked again, in rounds."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from loratools.errors import MeasureError, TuneError
from loratools.measures.build import MeasureSet
from loratools.measures.measure import Shown
from loratools.measures.probe.marked import BAD_STARS, GOOD_STARS, LOST_STARS, Marked
from loratools.tune.asking.kept_draws import KeptDraws, open_kept, picture_key
from loratools.tune.asking.round_page import Cell, RoundPage
from loratools.tune.asking.to_mark import Candidate, to_mark
from loratools.tune.folder import TuneFolder
from loratools.tune.history import Generation, History
from loratools.tune.problem.goals import Goals
from loratools.tune.problem.prompts import Shot
from loratools.tune.progress import TuneProgress
from loratools.tune.report.result import TuneResult
from loratools.tune.run import TuneRun
from loratools.tune.search.strategy import Ask, Strategy

ROUNDS = 3
_FIRST, _LATER = 72, 40  # pictures that are shown for marking, in the first round and in each later one
_LAST = 3  # generations of the search whose pictures are shown again
Marker = Callable[[int, Sequence[Shown]], Sequence[int]]  # round, pictures -> stars of each, 0 for none
MakeMarkedMeasures = Callable[[Sequence[Shown], Sequence[Shown], Marked], MeasureSet]


@dataclass(frozen=True, eq=False)
class MarkedTune:
    """A tune that asks for marks.

    Attributes:
        tune: one round of it; its measures, key and folder are replaced.
        make_measures: of the base's, of the whole LoRA's and of marked pictures.
        given: whether there are marks without asking, which then are the first round's.
        marker: marks in place of a person, who else does so on a page.
        votes: the page's export, where it does not lie in the round's folder.
    """

    tune: TuneRun
    make_measures: MakeMarkedMeasures
    given: bool = False
    marker: Marker | None = None
    votes: Path | None = None
    rounds: int = ROUNDS

    def run(self, owner: str, *, force: bool = False, recipe: Mapping[str, Any] | None = None) -> TuneResult:
        """Go on as far as there are marks: the result of the last round that is marked.

        Raises:
            AnswersWantedError: if the first pictures have not been marked yet; they are drawn by then.
            MeasureError: for marks that tell nothing.
            FormatError: for answers about other pictures.
        """
        if self.tune.ranks.world > 1:
            raise TuneError("a tune that asks a person draws in one process; leave `processes=` and `launch=` away")
        TuneFolder(self._path, part="marks").begin(self.tune.key, owner, force=force)
        result: TuneResult | None = None
        marks: list[dict[str, int]] = []
        for number in range(1, self.rounds + 1):
            page = self._page(number)
            asked = number > 1 or not self.given
            if asked:
                self._show(page, number, result)
                stars = self._stars(page, number)
                if stars is None:
                    return self._waiting(page, number, result)
                marks.append(stars)
            result = self._searched(number, marks, result, owner, recipe)
            if not result.finished:
                return result  # it was stopped; the same call goes on in this round
        if result is None:
            raise TuneError(f"{self.rounds} rounds of marks are none; give 1 or more")
        return result

    @property
    def _path(self) -> Path:
        return self.tune.folder.path

    @property
    def _draws(self) -> KeptDraws:
        return KeptDraws(self.tune.draws, self._path / "marks" / "drawn")

    def _page(self, number: int) -> RoundPage:
        return RoundPage(self._path / "marks" / f"round-{number}")

    def _show(self, page: RoundPage, number: int, result: TuneResult | None) -> None:
        """Write the round's page; the first one's pictures are those that the search begins with."""
        if page.written:
            return
        shots = self.tune.shots.search
        if result is None:
            generations = self._first()
            self._draw(generations)
        else:
            drawn = result.history.generations
            last = [own for own in drawn if own.kind == "search"][-_LAST:]
            generations = [*last, *(own for own in drawn if own.kind == "check")]
        chosen = to_mark(generations, shots, _FIRST if number == 1 else _LATER, self.tune.request.seed)
        page.write(*self._page_of(number, chosen))

    def _page_of(self, number: int, chosen: Sequence[Candidate]) -> tuple[str, list[str], list[Cell], tuple[int, int]]:
        cells: list[Cell] = []
        columns: dict[str, int] = {}
        for candidate in chosen:
            prompt = candidate.shot.prompt
            columns[prompt] = columns.get(prompt, 0) + 1
            key = picture_key(candidate.point, candidate.shot, False)
            row, column = prompt or "no prompt", str(columns[prompt])
            cells.append(Cell(key, row, column, f"../drawn/{key}.png", prompt, candidate.shot.seed))
        symptoms = " and ".join(self.tune.request.symptoms)
        enough = "twenty good and twenty bad ones, both of the same prompts, are enough"
        about = [
            f"{GOOD_STARS} or 5 stars: no bad {symptoms}, and in the LoRA's style",
            f"{LOST_STARS} stars: no bad {symptoms}, but the style is lost",
            f"1 or {BAD_STARS} stars: bad {symptoms}; none: you cannot tell",
            enough if number == 1 else "ten good and ten bad ones are enough; this is where the search has come to",
            "then E exports votes.json: save it in this page's folder, and run the same command again",
        ]
        first = open_kept(self._draws.path(cells[0].key), chosen[0].shot)
        height, width = first.pixels.shape[:2]
        return f"marks, round {number}: {symptoms}", about, cells, (width, height)

    def _first(self) -> list[Generation]:
        """What every round's search begins with, not measured: the whole LoRA, strengths, and the screening."""
        tune, pool = self.tune, len(self.tune.shots.search)
        strategy = Strategy(tune.space, tune.request.effort, pool, tune.request.seed)
        every = tuple(range(pool))
        asks = [Ask("whole", (strategy.whole,), every), strategy.ladder()]
        while True:
            history = History(tuple(_unmeasured(ask) for ask in asks), pool)
            if history.count("screening") >= tune.request.effort.screening:
                return list(history.generations)
            ask = strategy.next(history, Goals((), ()))
            if ask is None:
                return list(history.generations)
            asks.append(ask)

    def _draw(self, generations: Sequence[Generation]) -> None:
        tune, done = self.tune, 0
        total = sum(own.pictures for own in generations)

        def on_picture() -> None:
            nonlocal done
            done += 1
            tune.on_progress(TuneProgress("pictures to mark", done, total, None))

        for own in generations:
            shots = [tune.shots.search[number] for number in own.shots]
            self._draws([np.array(point) for point in own.points], shots, fine=False, on_picture=on_picture)

    def _stars(self, page: RoundPage, number: int) -> dict[str, int] | None:
        """The round's marks, by key; None where nobody has given any."""
        if self.marker is not None and not page.answers.is_file():
            cells = page.cells()
            stars = self.marker(number, [self._opened(cell) for cell in cells])
            page.answer({cell.key: own for cell, own in zip(cells, stars, strict=True) if own})
        elif self.votes is not None and self._takes(page, number):
            page.take(self.votes)
        votes = page.votes()
        return dict(votes.stars) if votes is not None and votes.stars else None

    def _takes(self, page: RoundPage, number: int) -> bool:
        """Whether the file of votes is this round's: of the first one without answers, or of the one it names."""
        if page.answers.is_file():
            return False
        earlier = [self._page(own) for own in range(1, number)]
        return not any(_same_text(own.answers, self.votes) for own in earlier)

    def _opened(self, cell: Cell) -> Shown:
        return open_kept(self._draws.path(cell.key), Shot(cell.prompt, cell.seed))

    def _waiting(self, page: RoundPage, number: int, result: TuneResult | None) -> TuneResult:
        wanted = page.wanted("mark pictures by stars")
        if result is None:
            raise wanted
        again = (
            f"round {number} of {self.rounds}: the search may have come to what looks right to the measure alone; "
            f"{wanted}, or take this result as it is"
        )
        return replace(result, waiting=again)

    def _searched(
        self,
        number: int,
        marks: Sequence[Mapping[str, int]],
        result: TuneResult | None,
        owner: str,
        recipe: Mapping[str, Any] | None,
    ) -> TuneResult:
        """The round's search and report, by all marks so far."""
        tune, effort = self.tune, self.tune.request.effort
        marked = self._marked(marks)
        part = math.ceil(effort.generations * number / self.rounds)
        checks = effort.checks if number == self.rounds else min(1, effort.checks)
        known = () if result is None else result.history.generations
        key = json.dumps([tune.key, number, [sorted(own.items()) for own in marks]])
        folder = TuneFolder(self._path, part=f"search-marks-{number}")
        key = hashlib.sha256(key.encode()).hexdigest()
        folder.begin(key, owner, force=True)  # of other marks: searched anew, and its pictures are there
        searching = replace(
            tune,
            request=replace(tune.request, effort=replace(effort, generations=part, checks=checks)),
            draws=self._draws,
            make_measures=lambda base, whole: self.make_measures(base, whole, marked),
            key=key,
            folder=folder,
            replay=tuple(Ask(own.kind, own.points, own.shots) for own in known),
        )
        tune.on_note(f"round {number}: {len(marked.good)} good marks, {len(marked.bad)} bad ones")
        return searching.run(owner, force=True, recipe=recipe)

    def _marked(self, marks: Sequence[Mapping[str, int]]) -> Marked:
        """The pictures of all rounds' marks.

        Raises:
            MeasureError: if all marks are of one kind.
        """
        good: list[Shown] = []
        bad: list[Shown] = []
        lost: list[Shown] = []
        for number, own in enumerate(marks, 2 if self.given else 1):
            page = self._page(number)
            for cell in page.cells():
                stars = own.get(cell.key, 0)
                if stars:
                    side = good if stars >= GOOD_STARS else bad if stars <= BAD_STARS else lost
                    side.append(self._opened(cell))
        sides = ((len(good) + len(lost), "good", "4 or 5"), (len(bad), "bad", "1 or 2"))
        for count, word, wanted in sides:
            if not count and not self.given:
                page = self._page(1)
                raise MeasureError(
                    f"no picture is marked {word}, and what is bad shows beside what is good alone; give {wanted} "
                    f"stars to some in {page.page}, and save the votes as {page.answers} again"
                )
        return Marked(tuple(good), tuple(bad), tuple(lost))


def _unmeasured(ask: Ask) -> Generation:
    return Generation(ask.kind, ask.points, ask.shots, {})


def _same_text(one: Path, other: Path | None) -> bool:
    try:
        return other is not None and one.read_bytes() == other.read_bytes()
    except OSError:
        return False
