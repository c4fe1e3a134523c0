"""A tune that asks for marks: what it shows, how it goes on from round to round, and what it refuses."""

from __future__ import annotations

import json
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loratools.errors import AnswersWantedError, FileError, FormatError, MeasureError, TuneError
from loratools.measures.build import MeasureSet
from loratools.measures.measure import Shown
from loratools.measures.probe.marked import Marked
from loratools.train.distributed import Ranks
from loratools.tune.asking.by_marks import MarksAsker, _opened
from loratools.tune.asking.round_page import RoundPage
from loratools.tune.asking.rounds import AskedTune
from loratools.tune.folder import TuneFolder
from loratools.tune.problem.prompts import split_prompts
from loratools.tune.problem.request import TuneRequest
from loratools.tune.report.result import TuneResult
from loratools.tune.run import TuneRun
from tests.tune.vectors.conftest import PROMPTS, TINY, Figure, Tuning, World
from tests.tune.vectors.test_descent import SmoothWorld, smooth_figures

HANDS, STYLE = Figure("hands", "lower"), Figure("style", "higher")


@dataclass
class Asking:
    """Tunes that ask for marks, in one folder; ``seen`` are the marks that each round's measures were made of."""

    tuning: Tuning
    seen: list[Marked] = field(default_factory=list)

    def measures(self, drawn: Sequence[Shown], whole: Sequence[Shown], marked: Marked) -> MeasureSet:
        self.seen.append(marked)
        return MeasureSet((HANDS,), (STYLE, Figure("tags", "higher")))

    def smooth(self, *_: Any, **__: Any) -> MeasureSet:
        return smooth_figures((), ())

    def of(self, world: World, *, key: str = "key", ranks: Ranks = Ranks(), **words: Any) -> AskedTune:  # noqa: B008
        effort = replace(TINY, descent=20)
        request = TuneRequest(("hands",), PROMPTS, seeds=(1, 2), effort=effort)
        shots = split_prompts(PROMPTS, (1, 2), effort, 1)
        smooth = words.pop("gradient", None)
        run = TuneRun(
            space=self.tuning.space,
            request=request,
            shots=shots,
            draws=world,
            make_measures=lambda *_: MeasureSet(),
            key=key,
            folder=TuneFolder(self.tuning.folder),
            weight=2,
            on_progress=lambda _: None,
            on_note=lambda _: None,
            ranks=ranks,
            smooth=None if smooth is None else lambda: smooth,
        )
        given = words.get("given", False)
        measures = self.measures if smooth is None else self.smooth
        asker = MarksAsker(shots.search, ("hands",), measures, given, words.pop("marker", None))
        return AskedTune(run, asker, **words)

    def run(self, world: World | None = None, **words: Any) -> TuneResult:
        force = words.pop("force", False)
        return self.of(world or self.tuning.world(), **words).run("test", force=force)

    def page(self, number: int) -> RoundPage:
        return RoundPage(self.tuning.folder / f"marks/round-{number}")

    def answer(self, number: int, only: tuple[int, ...] = (1, 3, 5)) -> int:
        """Mark the round's pictures as a person would, by what they show."""
        page = self.page(number)
        cells = page.cells()
        pictures = [_opened(cell, self.of(self.tuning.world())._draws) for cell in cells]
        stars = dict(zip([cell.key for cell in cells], by_eye(number, pictures), strict=True))
        page.answer({key: own for key, own in stars.items() if own in only})
        return sum(own in only for own in stars.values())


def by_eye(number: int, pictures: Sequence[Shown]) -> list[int]:
    pairs = zip(HANDS(pictures), STYLE(pictures), strict=True)
    return [1 if hands > 1.5 else 5 if style > 0.6 else 3 if style < 0.3 else 0 for hands, style in pairs]


@pytest.fixture
def asking(tuning: Tuning) -> Asking:
    return Asking(tuning)


def test_a_person_marks_round_by_round_and_may_stop_at_any(asking: Asking) -> None:
    first = asking.tuning.world()
    with pytest.raises(
        AnswersWantedError, match=r"mark pictures by stars in .*round-1.*the same command again"
    ) as wanted:
        asking.run(first)
    assert wanted.value.page.is_file() and wanted.value.answers == asking.page(1).answers
    assert not (asking.tuning.folder / "tuned.safetensors").exists() and not asking.seen
    shown = asking.page(1).cells()
    assert {cell.parts[0].shot.prompt for cell in shown} == {
        shot.prompt for shot in split_prompts(PROMPTS, (1, 2), TINY, 1).search
    }
    assert len({cell.key for cell in shown}) == len(shown) > 20
    count = asking.answer(1)
    one = asking.run()
    assert "round 2 of 3" in one.waiting and one.waiting in one.text() and one.file.is_file()
    assert len(asking.seen[-1].pictures) == count and asking.seen[-1].bad and asking.seen[-1].good
    assert asking.page(2).page.is_file()
    asking.answer(2)
    two = asking.run()
    assert "round 3 of 3" in two.waiting and two.history.count("search") > one.history.count("search")
    asking.answer(3)
    three = asking.run()
    assert three.waiting == "" and three.verdict.answer == "tuned"
    assert three.history.count("search") == TINY.generations * TINY.population
    assert three.history.generations[: len(two.history)] == tuple(
        replace(own, seconds=three.history.generations[n].seconds) for n, own in enumerate(two.history.generations)
    ), "what earlier rounds drew is known to the last one"


def test_marks_lead_a_descent_and_the_next_round_shows_where_it_has_come_to(asking: Asking) -> None:
    world = asking.tuning.world()
    result = asking.run(world, marker=by_eye, gradient=SmoothWorld(world))
    assert result.waiting == "" and len(result.steps) == 20 and result.answer == "tuned"
    first, later = ({cell.key for cell in asking.page(number).cells()} for number in (1, 2))
    assert later and not first & later
    shown = asking.of(world)._draws
    hands = [HANDS([_opened(cell, shown)])[0] for cell in asking.page(2).cells()]
    assert np.median(hands) < 1, "what the descent made of them; the whole LoRA's were shown before"
    again = SmoothWorld(asking.tuning.world(), fail_at=0)
    assert np.array_equal(asking.run(again.world, marker=by_eye, gradient=again).point, result.point)
    assert again.world.drawn == 0


def test_no_picture_is_drawn_twice_and_a_second_call_draws_none(asking: Asking) -> None:
    world = asking.tuning.world()
    drawn: list[tuple[object, ...]] = []
    figures = world.figures

    def spy(point: np.ndarray | None, shot: Any) -> tuple[float, float, float]:
        drawn.append((None if point is None else tuple(np.round(point, 4)), shot, world.fine))
        return figures(point, shot)

    world.figures = spy  # type: ignore[method-assign]
    result = asking.run(world, marker=by_eye)
    assert result.waiting == "" and result.verdict.answer == "tuned"
    coarse = [own[:2] for own in drawn if own[2] == 0]
    assert len(coarse) == len(set(coarse)) > 0
    again = asking.tuning.world()
    second = asking.run(again, marker=by_eye)
    assert again.drawn == 0 and np.array_equal(second.point, result.point)


def test_a_kill_while_pictures_to_mark_are_drawn_loses_a_generation_at_most(asking: Asking) -> None:
    def kill(number: int) -> None:
        if number == 40:
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        asking.run(asking.tuning.world(interrupt=kill))
    rest = asking.tuning.world()
    with pytest.raises(AnswersWantedError):
        asking.run(rest)
    whole = 6 + 2 * 6 + 16 * 3
    assert rest.drawn + 40 <= whole + 12


def test_a_stop_in_a_round_asks_nothing_of_a_person_and_the_next_call_goes_on(asking: Asking) -> None:
    with pytest.raises(AnswersWantedError):
        asking.run()
    asking.answer(1)

    def press(number: int) -> None:
        if number == 14:
            signal.raise_signal(signal.SIGINT)

    stopped = asking.run(asking.tuning.world(interrupt=press))
    assert not stopped.finished and stopped.waiting == "" and not asking.page(2).written
    result = asking.run()
    assert result.finished and "round 2" in result.waiting


def test_marks_that_were_changed_are_searched_anew_with_the_same_pictures(asking: Asking) -> None:
    with pytest.raises(AnswersWantedError):
        asking.run()
    asking.answer(1)
    asking.run()
    asking.answer(1, only=(1, 5))
    world = asking.tuning.world()
    asking.run(world)
    assert asking.seen[0].lost and not asking.seen[-1].lost
    assert world.drawn == 0, "the measures are the same here, and so is all that is drawn"


def test_marks_given_before_stand_for_the_first_round(asking: Asking) -> None:
    result = asking.run(given=True)
    assert "round 2 of 3" in result.waiting and asking.seen[-1].pictures == ()
    assert not asking.page(1).written


def test_an_export_from_elsewhere_is_taken_for_the_round_that_waits(asking: Asking, tmp_path: Path) -> None:
    with pytest.raises(AnswersWantedError):
        asking.run()
    asking.answer(1)
    saved = tmp_path / "downloads.json"
    asking.page(1).answers.rename(saved)
    result = asking.run(votes=saved)
    assert "round 2" in result.waiting and asking.page(1).answers.is_file()
    again = asking.run(votes=saved)
    assert "round 2" in again.waiting and not asking.page(2).answers.exists(), (
        "it is the first round's, not the second's"
    )


def test_answers_of_another_page_and_of_one_kind_are_one_sentence(asking: Asking, tmp_path: Path) -> None:
    with pytest.raises(AnswersWantedError):
        asking.run()
    other = tmp_path / "votes.json"
    content = {"cells": {"f" * 32: {"at": {}, "file": "x.png"}}, "stars": {"f" * 32: 5}, "pairs": []}
    other.write_text(json.dumps({"format": "loratools votes 1", **content}))
    with pytest.raises(FormatError, match=r"holds 1 answers about pictures that .*grid.html does not show"):
        asking.run(votes=other)
    assert not asking.page(1).answers.exists()
    asking.answer(1, only=(1,))
    with pytest.raises(MeasureError, match=r"no picture is marked good.*give 4 or 5 stars to some in"):
        asking.run()
    asking.answer(1, only=(5,))
    with pytest.raises(MeasureError, match=r"no picture is marked bad.*give 1 or 2 stars"):
        asking.run()
    asking.page(1).answers.write_text("{}")
    with pytest.raises(FormatError, match=r"not a votes\.json"):
        asking.run()
    asking.answer(1)
    (asking.page(1).folder / "round.json").write_text("[]")
    with pytest.raises(FileError, match="delete the folder to be asked again"):
        asking.run()


def test_where_nothing_is_left_to_show_the_result_so_far_is_the_result(
    asking: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(AnswersWantedError):
        asking.run()
    asking.answer(1)
    monkeypatch.setattr("loratools.tune.asking.by_marks.to_mark", lambda *_: [])
    result = asking.run()
    assert result.file.is_file() and not result.waiting and any("has been shown" in note for note in result.notes)


def test_another_tune_s_folder_is_refused_and_several_processes_too(asking: Asking) -> None:
    with pytest.raises(AnswersWantedError):
        asking.run()
    with pytest.raises(FileError, match="holds another search"):
        asking.run(key="another")
    asking.answer(1)
    answers = asking.page(1).answers.read_bytes()
    world = asking.tuning.world()
    with pytest.raises(AnswersWantedError):  # pictures of the other LoRA, and what was said of them, are not this one's
        asking.run(world, key="another", force=True)
    assert world.drawn and (asking.tuning.folder / "marks-key/round-1/votes.json").read_bytes() == answers
    for key, place in (("key", "marks-another"), ("another", "marks-key-2")):
        with pytest.raises(AnswersWantedError):
            asking.run(key=key, force=True)
        assert (asking.tuning.folder / place / "round-1/grid.html").is_file()
    with pytest.raises(TuneError, match="draws in one process"):
        asking.run(ranks=replace(Ranks(), world=2))


def test_a_gain_that_the_second_probe_does_not_see_is_refused(tuning: Tuning) -> None:
    @dataclass(frozen=True)
    class Fooled(Figure):
        def __call__(self, pictures: object) -> np.ndarray:
            return -np.asarray(Figure("hands", "lower")(pictures))  # type: ignore[arg-type]

    for check, answer in ((Figure("hands", "lower"), "tuned"), (Fooled("second_probe", "lower"), "strength")):
        own = Tuning(tuning.space, tuning.folder / check.name)
        result = own.run(tuning.world(), measures=lambda *_, check=check: MeasureSet((HANDS,), (STYLE,), (check,)))
        assert result.verdict.answer == answer, check.name
        refused = [note for note in result.notes if "does not show in second_probe" in note]
        assert len(refused) == (answer == "strength")
