"""A tune that asks a person in rounds: pictures of its own are shown on a page, the search is led by what the answers
say, and what the search has come to is asked about next."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from loratools.errors import NothingToAskError, TuneError, UnsureError
from loratools.measures.build import MeasureSet
from loratools.measures.measure import Shown
from loratools.measures.votes.votes_file import Votes
from loratools.tune.asking.kept_draws import KeptDraws
from loratools.tune.asking.round_page import PageContent, RoundPage
from loratools.tune.descent.answers import descent_answers
from loratools.tune.folder import ASKED, TuneFolder
from loratools.tune.history import Generation, History
from loratools.tune.problem.goals import Goals
from loratools.tune.progress import TuneProgress
from loratools.tune.report.result import TuneResult
from loratools.tune.run import TuneRun
from loratools.tune.search.strategy import Ask, Strategy, as_tuple

ROUNDS = 3
_LAST = 3  # generations of the search whose pictures are shown again
_SHOWN = 40  # pictures of each of a descent's vectors


@dataclass(frozen=True)
class Answered:
    """A round's page, and what a person said of it."""

    page: RoundPage
    votes: Votes


class Asker(Protocol):
    """What is asked, and what is made of the answers."""

    @property
    def folder(self) -> str:
        """What the rounds' folder in the tune's is called: ``marks`` or ``votes``."""
        ...

    @property
    def wanted(self) -> str:
        """What a person is to do, as in ``mark pictures by stars``."""
        ...

    def content(
        self, number: int, generations: Sequence[Generation], answered: Sequence[Answered], draws: KeptDraws
    ) -> PageContent:
        """What the page of round ``number`` shows, of what was drawn in ``generations``.

        Raises:
            NothingToAskError: if all of it has been shown.
        """
        ...

    def reply(self, number: int, page: RoundPage, draws: KeptDraws) -> None:
        """Answer in a person's place, where a program or a terminal does."""
        ...

    def complete(self, votes: Votes) -> bool:
        """Whether the answers are of the kind that was asked for, and enough of them to go on."""
        ...

    def measures(
        self, base: Sequence[Shown], whole: Sequence[Shown], answered: Sequence[Answered], draws: KeptDraws
    ) -> MeasureSet:
        """What leads the search, from the base's and the whole LoRA's pictures and all answers.

        Raises:
            MeasureError: for answers that tell nothing.
        """
        ...

    def enough(self, result: TuneResult, answered: Sequence[Answered], draws: KeptDraws) -> tuple[bool, str]:
        """Whether nothing more has to be asked, and a sentence on how far the answers have led; empty for none."""
        ...


@dataclass(frozen=True, eq=False)
class AskedTune:
    """A tune in rounds.

    Attributes:
        tune: one round of it; its measures, key and folder are replaced.
        given: whether there are answers without asking, which then are the first round's.
        votes: the page's export, where it does not lie in the round's folder.
    """

    tune: TuneRun
    asker: Asker
    given: bool = False
    votes: Path | None = None
    rounds: int = ROUNDS

    def run(self, owner: str, *, force: bool = False, recipe: Mapping[str, Any] | None = None) -> TuneResult:
        """Go on as far as there are answers: the result of the last round that is answered.

        Raises:
            AnswersWantedError: if the first pictures have no answers yet; they are drawn by then.
            MeasureError: for answers that tell nothing, also after the last round.
            FormatError: for answers about other pictures.
        """
        if self.tune.ranks.world > 1:
            raise TuneError("a tune that asks a person draws in one process; leave `processes=` and `launch=` away")
        TuneFolder(self._path, part=self.asker.folder).begin(self.tune.key, owner, force=force)
        result: TuneResult | None = None
        answered: list[Answered] = []
        unsure = ""
        for number in range(1, self.rounds + 1):
            page, says = self._page(number), unsure
            if number > 1 or not self.given:
                if result is not None and not unsure:
                    enough, says = self.asker.enough(result, answered, self._draws)
                    if enough:
                        return self._ended(result, says)
                try:
                    self._show(page, number, result, answered)
                except NothingToAskError as nothing:
                    if result is None:
                        raise
                    return self._ended(result, str(nothing))
                votes = self._votes(page, number)
                if votes is None:
                    return self._waiting(page, number, result, says)
                answered.append(Answered(page, votes))
            try:
                result, unsure = self._searched(number, answered, result, owner, recipe), ""
            except UnsureError as error:
                if number == self.rounds:
                    raise
                unsure = str(error)
                self.tune.on_note(unsure)
                continue
            if not result.finished:
                return result  # it was stopped; the same call goes on in this round
        if result is None:
            raise TuneError(f"{self.rounds} rounds of questions are none; give 1 or more")
        return self._ended(result, self.asker.enough(result, answered, self._draws)[1])

    @property
    def _path(self) -> Path:
        return self.tune.folder.path

    @property
    def _draws(self) -> KeptDraws:
        return KeptDraws(self.tune.draws, self._path / self.asker.folder / ASKED)

    def _page(self, number: int) -> RoundPage:
        return RoundPage(self._path / self.asker.folder / f"round-{number}")

    def _ended(self, result: TuneResult, says: str) -> TuneResult:
        if says:
            self.tune.on_note(says)
        return replace(result, notes=(*result.notes, says)) if says else result

    def _show(self, page: RoundPage, number: int, result: TuneResult | None, answered: Sequence[Answered]) -> None:
        """Write the round's page; the first one's pictures are those that every search begins with."""
        if page.written:
            return
        if result is None:
            generations = self._first()
            self._draw(generations)
        else:
            generations = self._later(result)
        page.write(self.asker.content(number, generations, answered, self._draws))

    def _first(self) -> list[Generation]:
        """What every round's search begins with, not measured: the whole LoRA, strengths, and the screening."""
        tune, pool = self.tune, len(self.tune.shots.search)
        strategy = Strategy(tune.space, tune.request.effort, pool, tune.request.seed)
        asks = [Ask("whole", (strategy.whole,), tuple(range(pool))), strategy.ladder()]
        while True:
            history = History(tuple(Generation(ask.kind, ask.points, ask.shots, {}) for ask in asks), pool)
            screened = history.count("screening") >= tune.request.effort.screening
            ask = None if screened else strategy.next(history, Goals((), ()))
            if ask is None:
                return list(history.generations)
            asks.append(ask)

    def _later(self, result: TuneResult) -> list[Generation]:
        """What the search has come to: its last vectors; those of a descent, which draws no other pictures, are drawn
        for this beside the whole LoRA."""
        if not result.steps:
            drawn = result.history.generations
            last = [own for own in drawn if own.kind == "search"][-_LAST:]
            return [*last, *(own for own in drawn if own.kind == "check")]
        settled, *simpler = descent_answers(result.steps, result.space)
        points = tuple(dict.fromkeys(map(as_tuple, (result.space.start, settled, simpler[-1], result.found))))
        count = len(self.tune.shots.search)
        shown = np.unique(np.linspace(0, count - 1, min(count, _SHOWN)).round().astype(int)).tolist()
        halves = [half for half in (shown[::2], shown[1::2]) if half]
        generations = [Generation("check", points, tuple(half), {}) for half in halves]
        self._draw(generations)
        return generations

    def _draw(self, generations: Sequence[Generation]) -> None:
        tune, done = self.tune, 0
        total = sum(own.pictures for own in generations)

        def on_picture() -> None:
            nonlocal done
            done += 1
            tune.on_progress(TuneProgress("pictures to show", done, total, None))

        for own in generations:
            shots = [tune.shots.search[number] for number in own.shots]
            self._draws([np.array(point) for point in own.points], shots, fine=False, on_picture=on_picture)

    def _votes(self, page: RoundPage, number: int) -> Votes | None:
        """The round's answers; None where there are none, or not enough."""
        if self.votes is not None and self._takes(page, number):
            page.take(self.votes)
        votes = page.votes()
        if votes is None or not self.asker.complete(votes):
            self.asker.reply(number, page, self._draws)
            votes = page.votes()
        return votes if votes is not None and self.asker.complete(votes) else None

    def _takes(self, page: RoundPage, number: int) -> bool:
        """Whether the file of votes is this round's: an earlier one's stays what it is."""
        earlier = [self._page(own) for own in range(1, number)]
        return not any(_same_text(own.answers, self.votes) for own in [*earlier, page])

    def _waiting(self, page: RoundPage, number: int, result: TuneResult | None, says: str) -> TuneResult:
        wanted = page.wanted(self.asker.wanted, says if result is None else "")
        if result is None:
            raise wanted
        so_far = f"{says}; " if says else ""
        again = f"{so_far}round {number} of {self.rounds}: {wanted}, or take this result as it is"
        return replace(result, waiting=again)

    def _searched(
        self,
        number: int,
        answered: Sequence[Answered],
        result: TuneResult | None,
        owner: str,
        recipe: Mapping[str, Any] | None,
    ) -> TuneResult:
        """The round's search and report, by all answers so far."""
        tune, effort = self.tune, self.tune.request.effort
        part = math.ceil(effort.generations * number / self.rounds)
        checks = effort.checks if number == self.rounds else min(1, effort.checks)
        known = () if result is None else result.history.generations
        facts = [[sorted(own.votes.stars.items()), [vars(pair) for pair in own.votes.pairs]] for own in answered]
        key = hashlib.sha256(json.dumps([tune.key, number, facts]).encode()).hexdigest()
        folder = TuneFolder(self._path, part=f"search-{self.asker.folder}-{number}")
        folder.begin(key, owner, force=True)  # of other answers: searched anew, and its pictures are there
        searching = replace(
            tune,
            request=replace(tune.request, effort=replace(effort, generations=part, checks=checks)),
            draws=self._draws,
            make_measures=lambda base, whole: self.asker.measures(base, whole, answered, self._draws),
            key=key,
            folder=folder,
            replay=tuple(Ask(own.kind, own.points, own.shots) for own in known),
        )
        return searching.run(owner, force=True, recipe=recipe)


def _same_text(one: Path, other: Path | None) -> bool:
    try:
        return other is not None and one.read_bytes() == other.read_bytes()
    except OSError:
        return False
