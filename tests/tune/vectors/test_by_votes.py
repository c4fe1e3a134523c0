"""A tune that asks which of two sides is better: what it shows, what it makes of the answers, and when it ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from PIL import Image

from loratools.errors import AnswersWantedError, MeasureError, UnsureError
from loratools.measures.build import MeasureSet
from loratools.measures.measure import Shown
from loratools.measures.probe.pairs import PairChoice, pair_measures, second_pair_probe
from loratools.tune.asking.by_votes import PAIRS, Question, VotesAsker
from loratools.tune.asking.round_page import RoundPage
from loratools.tune.asking.rounds import AskedTune
from loratools.tune.folder import TuneFolder
from loratools.tune.problem.prompts import split_prompts
from loratools.tune.problem.request import TuneRequest
from loratools.tune.report.result import TuneResult
from loratools.tune.run import TuneRun
from tests.tune.vectors.conftest import FIGURES, PROMPTS, TINY, Figure, Tuning, World

HANDS = Figure("hands", "lower")


def seen(pictures: Sequence[Shown]) -> np.ndarray:
    """Features (n, 12): the picture's figures, mixed, so that none of them stands for the defect alone."""
    values = np.array([picture.pixels.reshape(-1).view(np.float32) for picture in pictures], dtype=np.float64)
    mixing = np.random.default_rng(4).normal(size=(len(FIGURES), 12))
    return values @ mixing


def by_eye(question: Question) -> float:
    left, right = HANDS(question.left).mean(), HANDS(question.right).mean()
    return 0.5 if abs(left - right) < 0.02 else float(left < right)


@dataclass
class Voting:
    """Tunes that ask for votes, in one folder; ``choices`` are those that each round's measures were made of."""

    tuning: Tuning
    choices: list[Sequence[PairChoice]] = field(default_factory=list)

    def measures(self, drawn: Sequence[Shown], whole: Sequence[Shown], *, choices: Sequence[PairChoice]) -> MeasureSet:
        self.choices.append(choices)
        voted, second = pair_measures(choices, seen, drawn, whole), second_pair_probe(choices, seen, drawn, whole)
        checks = () if second.measure is None else (second.measure,)
        return MeasureSet((voted.measure,), (Figure("style", "higher"),), checks, True, voted.notes)

    def run(self, world: World | None = None, chooser: Any = None, **words: Any) -> TuneResult:
        request = TuneRequest(("hands",), PROMPTS, seeds=(1, 2), effort=TINY)
        shots = split_prompts(PROMPTS, (1, 2), TINY, 1)
        run = TuneRun(
            space=self.tuning.space,
            request=request,
            shots=shots,
            draws=world or self.tuning.world(),
            make_measures=lambda *_: MeasureSet(),
            key="key",
            folder=TuneFolder(self.tuning.folder),
            weight=2,
            on_progress=lambda _: None,
            on_note=lambda _: None,
        )
        asker = VotesAsker(shots.search, ("hands",), self.measures, seen, chooser)
        return AskedTune(run, asker, **words).run("test")

    def page(self, number: int) -> RoundPage:
        return RoundPage(self.tuning.folder / f"votes/round-{number}")


@pytest.fixture(autouse=True)
def figures_are_read_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A report's pictures hold their figures too."""

    def opened(path: Any, number: int = 0) -> Shown:
        with Image.open(path) as image:
            return Shown(np.asarray(image.convert("RGB")), "", number)

    monkeypatch.setattr("loratools.measures.pictures.open_shown", opened)


@pytest.fixture
def voting(tuning: Tuning) -> Voting:
    return Voting(tuning)


def test_sixty_choices_repair_and_the_style_stays(voting: Voting) -> None:
    result = voting.run(chooser=by_eye)
    base, before, after = (
        np.mean([HANDS([Shown(np.asarray(Image.open(path)), "", 0)]) for path in result.held.column(name).pictures])
        for name in ("base", "before", "tuned")
    )
    assert (after - base) < 0.5 * (before - base), "the defect is halved"
    style = result.held.estimates("tuned")["style"].mean / result.held.estimates("before")["style"].mean
    assert style > 0.9 and result.verdict.answer == "tuned"
    assert len(voting.choices[-1]) <= 60 and result.waiting == ""
    assert any("foretold" in note for note in result.notes)
    assert any("above plain strength" in note for note in result.notes)


def test_a_page_asks_its_pairs_and_the_next_one_is_drawn_of_the_answers(
    voting: Voting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loratools.tune.asking.by_votes._LEFT", -9.0)  # whatever is left is worth another round
    with pytest.raises(AnswersWantedError, match=r"answer the pairs in .*round-1"):
        voting.run()
    page = voting.page(1)
    pairs, cells = page.pairs(), {cell.key: cell for cell in page.cells()}
    assert len(pairs) == PAIRS == len({frozenset(pair) for pair in pairs})
    for left, right in pairs:
        one, two = cells[left], cells[right]
        assert [part.shot for part in one.parts] == [part.shot for part in two.parts], (
            "sides differ by the vector alone"
        )
        assert len({part.shot.prompt for part in one.parts}) == 3
    with Image.open(page.folder / cells[pairs[0][0]].file) as strip:
        assert strip.size == (3 * 2 + 2 * 4, 2)
    text = page.page.read_text()
    assert "Which side has less bad hands?" in text and f'"pairs":[["{pairs[0][0]}"' in text
    stopped = iter([1.0, 0.0])
    with pytest.raises(AnswersWantedError):
        voting.run(chooser=lambda question: next(stopped, None))
    votes = page.votes()
    assert votes is not None and len(votes.pairs) == 2, "answers in the terminal are kept one by one"
    asked: list[Question] = []

    def chooser(question: Question) -> float | None:
        asked.append(question)
        return by_eye(question) if len(asked) <= PAIRS - 2 else None

    one = voting.run(chooser=chooser)
    assert asked[0].done == 2 and "round 2 of 3" in one.waiting and one.file.is_file()
    first = {frozenset(pair) for pair in pairs}
    assert not first & {frozenset(pair) for pair in voting.page(2).pairs()}
    assert np.array_equal(voting.run().point, one.point), "the same answers give the same result"
    monkeypatch.setattr("loratools.tune.asking.by_votes._LEFT", 9.0)
    ended = voting.run()
    assert ended.waiting == "" and "of the defect seems to be left" in ended.notes[-1], "nothing more is asked"


def test_answers_by_chance_are_not_trusted(voting: Voting) -> None:
    random = np.random.default_rng(2)
    asked: list[Question] = []

    def by_chance(question: Question) -> float | None:
        asked.append(question)
        return float(random.random() < 0.5) if len(asked) <= PAIRS else None

    with pytest.raises(AnswersWantedError, match=r"say nothing yet .* choices foretold, .*coin tells 50 %.*round-2"):
        voting.run(chooser=by_chance)
    first = {frozenset(pair) for pair in voting.page(1).pairs()}
    assert not first & {frozenset(pair) for pair in voting.page(2).pairs()}, "more is asked before anything is searched"
    with pytest.raises(UnsureError):
        voting.run(chooser=lambda question: float(random.random() < 0.5))


def picture(hands: float, name: str) -> Shown:
    values = np.array([hands, 0.9, 0.9], dtype=np.float32)
    return Shown(values.view(np.uint8).reshape(2, 2, 3).copy(), name, 1)


def choice(one: float, two: float, won: float) -> PairChoice:
    return PairChoice((picture(one, "p"),), (picture(two, "p"),), won, (str(one), str(two)))


def test_contradictions_are_told_and_too_few_choices_refused() -> None:
    grades = [0.1 * n for n in range(12)]
    plain = [choice(one, two, 1.0) for one, two in zip(grades, grades[2:], strict=False)]
    plain += [choice(one, two, 1.0) for one, two in zip(grades, grades[5:], strict=False)]
    ends = [picture(0.0, "p")], [picture(1.2, "p")]
    assert not any("contradict" in note for note in pair_measures(plain, seen, *ends).notes)
    both = pair_measures([*plain, choice(0.0, 0.1 * 5, 0.0)], seen, *ends).notes
    assert any("1 pair was answered both ways" in note for note in both)
    circle = [choice(2.0, 2.1, 1.0), choice(2.1, 2.2, 1.0), choice(2.2, 2.0, 1.0)]
    notes = pair_measures([*plain, *circle], seen, *ends).notes
    assert any("1 time one side was above a second" in note for note in notes)
    with pytest.raises(MeasureError, match="5 choices are too few to learn from; answer 6 pairs at least"):
        pair_measures(plain[:5], seen, *ends)


def test_figures_follow_the_choices_and_end_where_nothing_was_seen() -> None:
    random = np.random.default_rng(1)
    grades = random.uniform(0, 3, (24, 2))
    choices = [choice(float(one), float(two), float(one < two)) for one, two in grades]
    measure = pair_measures(choices, seen, [picture(0.1, "p")], [picture(2.5, "p")]).measure
    values = measure([picture(grade, "p") for grade in (0.2, 1.0, 2.0, 2.5)])
    assert list(values) == sorted(values) and values[-1] == pytest.approx(0, abs=1e-9)
    assert measure([picture(-9.0, "p")])[0] == pytest.approx(measure.lowest)
