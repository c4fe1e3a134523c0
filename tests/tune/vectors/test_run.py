"""A whole tune on made-up pictures: what it finds, keeps, writes, and how it stops and goes on."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from loratools.adapter.files.file import read
from loratools.adapter.files.metadata import Provenance
from loratools.errors import FileError, MeasureError
from loratools.measures.build import MeasureSet
from loratools.ops.merging.terms import Term
from loratools.ops.merging.verify import verify
from loratools.tune import run
from loratools.tune.problem.prompts import Shot
from loratools.tune.problem.space import Space
from loratools.tune.progress import TuneProgress
from loratools.tune.report.columns import Column, HeldOut, check_comparable
from tests.loras import lora_tensors, save
from tests.tune.vectors.conftest import Figure, Tuning, World, figures


def test_it_finds_the_blocks_that_hold_the_defect_and_keeps_the_style(tuning: Tuning, lora: Path) -> None:
    result = tuning.run(tuning.world())
    held = result.held
    before, after = held.estimates("before"), held.estimates("tuned")
    excess = before["hands"].mean - held.estimates("base")["hands"].mean
    left = (after["hands"].mean - held.estimates("base")["hands"].mean) / excess
    assert result.verdict.answer == "tuned" and result.verdict.clear and left < 0.2
    assert after["style"].mean >= 0.95 * before["style"].mean
    weights = result.space.vector(result.point)
    assert weights["OUT08"] < 0.7 or weights["OUT09"] < 0.7
    assert weights["OUT06"] >= 0.9 and weights["OUT11"] >= 0.9
    idle = [name for name in weights if name not in ("OUT06", "OUT08", "OUT09", "OUT11")]
    assert sum(weights[name] == 1 for name in idle) >= 8, f"blocks that do nothing stay at 1: {weights}"
    assert all(round(weight, 2) == weight for weight in weights.values()), "readable numbers"
    terms = [Term(read(lora), 1.0, result.vector, label="ink")]
    assert verify(result.file, terms).error < 1e-3, "the file is the merge of that vector"


def test_what_it_writes(tuning: Tuning, drawings: None) -> None:
    result = tuning.run(tuning.world())
    content = json.loads((tuning.folder / "tune.json").read_text())
    assert set(content["vector"]) == set(tuning.space.names)
    for key in ("base", "before", "guide", "strength", "after"):
        assert set(content[key]) == {"hands", "style", "tags"}
        assert set(content[key]["hands"]) == {"mean", "standard_error", "n"}
    assert content["before"]["hands"]["n"] == 8 and content["before"]["hands"]["standard_error"] > 0
    assert content["change"]["hands"]["from_before"]["mean"] == pytest.approx(
        content["after"]["hands"]["mean"] - content["before"]["hands"]["mean"], abs=1e-4
    )
    assert content["search"]["finished"] and content["search"]["pictures"] == result.pictures > result.history.pictures
    for name in ("sheet.png", "frontier.png"):
        with Image.open(tuning.folder / name) as image:
            assert image.width > 400
    made = Provenance.from_metadata(read(result.file).metadata)
    assert made is not None and made.step["merge"][0]["vector"]["OUT08"] == content["vector"]["OUT08"]


def test_the_report_sees_prompts_and_seeds_that_the_search_never_saw(tuning: Tuning) -> None:
    world = tuning.world()
    seen: list[tuple[str, int]] = []
    shots = world.figures

    def spy(point: np.ndarray | None, shot: object) -> tuple[float, float, float]:
        seen.append((shot.prompt, shot.seed))  # type: ignore[attr-defined]
        return shots(point, shot)  # type: ignore[arg-type]

    world.figures = spy  # type: ignore[method-assign]
    result = tuning.run(world)
    report = {(shot.prompt, shot.seed) for shot in result.held.shots}
    searched = set(seen[: -world.fine])
    assert not {prompt for prompt, _ in report} & {prompt for prompt, _ in searched}
    assert not {seed for _, seed in report} & {seed for _, seed in searched}


def test_where_no_vector_helps_the_answer_is_plain_strength(tuning: Tuning) -> None:
    shared = {"OUT08": 2.5, "OUT09": 2.5}  # what draws the style draws the defect
    result = tuning.run(tuning.world(hands=shared, style=shared))
    assert result.verdict.answer == "strength"
    assert np.allclose(result.point, np.round(result.space.start * result.strength, 4))
    content = json.loads((tuning.folder / "tune.json").read_text())
    assert content["after"] == content["strength"]
    assert any("beats plain strength" in note for note in result.notes)


def test_a_symptom_of_the_base_itself_is_told(tuning: Tuning) -> None:
    result = tuning.run(tuning.world(base_hands=2.95))
    assert any("the base itself shows this symptom: hands 2.95" in note for note in result.notes)


def test_the_same_request_gives_the_same_result_and_draws_nothing_twice(tuning: Tuning, tmp_path: Path) -> None:
    first = tuning.run(tuning.world())
    again = tuning.world()
    second = tuning.run(again)
    assert again.drawn == 0 and np.array_equal(first.point, second.point)
    elsewhere = Tuning(tuning.space, tmp_path / "other")
    assert np.array_equal(elsewhere.run(tuning.world()).point, first.point)
    assert elsewhere.run(tuning.world(), seed=2, key="other", force=True).history != first.history


@pytest.mark.parametrize("at", [3, 30, 100, 170])
def test_a_kill_at_any_picture_loses_at_most_a_generation(tuning: Tuning, tmp_path: Path, at: int) -> None:
    whole = Tuning(tuning.space, tmp_path / "whole").run(tuning.world())

    def kill(number: int) -> None:
        if number == at:
            raise RuntimeError("killed")

    world = tuning.world(interrupt=kill)
    with pytest.raises(RuntimeError):
        tuning.run(world)
    rest = tuning.world()
    result = tuning.run(rest)
    assert np.array_equal(result.point, whole.point) and result.json()["after"] == whole.json()["after"]
    assert rest.drawn + at <= tuning_total(whole) + 24, "what was whole is not drawn again"


def tuning_total(result: object) -> int:
    history, held, own = result.history, result.held, result.pictures  # type: ignore[attr-defined]
    return int(own) + history.pool + len(held.columns) * len(held.shots)


def test_ctrl_c_keeps_the_best_so_far_and_the_next_run_goes_on(tuning: Tuning, tmp_path: Path) -> None:
    whole = Tuning(tuning.space, tmp_path / "whole").run(tuning.world())

    def press(number: int) -> None:
        if number == 95:
            signal.raise_signal(signal.SIGINT)

    notes: list[str] = []
    stopped = tuning.run(tuning.world(interrupt=press), on_note=notes.append)
    assert not stopped.finished and stopped.file.is_file() and any("stops here" in note for note in notes)
    assert stopped.history.count("search") < whole.history.count("search")
    assert not json.loads((tuning.folder / "tune.json").read_text())["search"]["finished"]
    result = tuning.run(tuning.world())
    assert result.finished and np.array_equal(result.point, whole.point)


def test_ctrl_c_says_what_becomes_of_the_search(tuning: Tuning, capfd: pytest.CaptureFixture[str]) -> None:
    def press(number: int) -> None:
        if number == 60:
            signal.raise_signal(signal.SIGINT)

    tuning.run(tuning.world(interrupt=press))
    said = capfd.readouterr().err
    assert "its best vector so far, if there is one yet" in said and "step" not in said


def test_ctrl_c_before_any_screening_leaves_plain_strength(tuning: Tuning) -> None:
    def press(number: int) -> None:
        if number == 26:
            signal.raise_signal(signal.SIGINT)

    result = tuning.run(tuning.world(interrupt=press))
    assert not result.finished and result.history.count("screening") == 0
    assert result.verdict.answer == "strength" and result.file.is_file()


@pytest.mark.parametrize("at", [3, 20])  # among the base's pictures, and among those of plain strengths
def test_ctrl_c_before_there_is_a_vector_ends_as_ctrl_c_does(tuning: Tuning, at: int) -> None:
    def press(number: int) -> None:
        if number == at:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        tuning.run(tuning.world(interrupt=press))
    assert not (tuning.folder / "tuned.safetensors").exists() and tuning.run(tuning.world()).finished


def test_a_budget_ends_the_search_in_time(tuning: Tuning, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(run, "monotonic", lambda: now[0])

    def tick(_: int) -> None:
        now[0] += 1.0

    result = tuning.run(tuning.world(interrupt=tick), budget=200.0)
    assert not result.finished and now[0] <= 200 and result.history.count("screening") > 0


def test_progress_is_told_and_ends_at_its_total(tuning: Tuning) -> None:
    told: list[TuneProgress] = []
    tuning.run(tuning.world(), on_progress=told.append)
    assert [one.done for one in told] == sorted(one.done for one in told)
    assert told[-1].done == told[-1].total and told[0].seconds_left is None and told[40].seconds_left is not None
    assert list(dict.fromkeys(one.stage for one in told)) == [
        "base", "ladder", "screening", "search", "check", "fresh", "report"
    ]  # fmt: skip


def test_another_search_is_not_overwritten(tuning: Tuning) -> None:
    tuning.run(tuning.world())
    with pytest.raises(FileError, match="holds another search"):
        tuning.run(tuning.world(), key="another")
    tuning.run(tuning.world(), key="another", force=True)
    other = Tuning(tuning.space, tuning.folder.parent / "mine")
    other.folder.mkdir()
    (other.folder / "tuned.safetensors").write_bytes(b"mine")
    with pytest.raises(FileError, match="no search wrote"):
        other.run(tuning.world())


def test_measures_that_cannot_lead(tuning: Tuning) -> None:
    class Constant(Figure):
        def __call__(self, pictures: object) -> np.ndarray:
            return np.ones(len(pictures))  # type: ignore[arg-type]

    class Blind(Figure):
        def __call__(self, pictures: object) -> np.ndarray:
            return np.full(len(pictures), np.nan)  # type: ignore[arg-type]

    class Broken(Figure):
        def __call__(self, pictures: object) -> np.ndarray:
            raise ZeroDivisionError("oh")

    for number, (kind, message) in enumerate(((Constant, "gave 1 for each"), (Blind, "NaN"), (Broken, "failed"))):
        own = Tuning(tuning.space, tuning.folder / str(number))
        with pytest.raises(MeasureError, match=message):
            own.run(tuning.world(), measures=lambda *_, kind=kind: MeasureSet((kind("hands", "lower"),)))
    with pytest.raises(MeasureError, match="votes"):
        tuning.run(tuning.world(), measures=lambda *_: MeasureSet(by_votes=True))


def test_a_measure_that_tells_of_no_picture_under_two_vectors_is_named() -> None:
    def held(*columns: tuple[float, ...]) -> HeldOut:
        names = ("before", "strength", "tuned")
        shots = tuple(Shot("1girl", seed) for seed in range(2))
        own = [
            Column(name, f"its {name}", None, {"hands": values}, ())
            for name, values in zip(names, columns, strict=True)
        ]
        return HeldOut(shots, tuple(own))

    blind = float("nan")
    check_comparable(held((1.0, blind), (0.5, blind), (0.2, 0.3)), ("before", "strength", "tuned"))
    with pytest.raises(MeasureError, match=r"'hands' could tell of none of the 2 pictures .* 'its before' and 'its t"):
        check_comparable(held((1.0, blind), (0.5, 0.5), (blind, 0.3)), ("before", "strength", "tuned"))


def test_a_file_in_the_folders_place_is_told(tuning: Tuning) -> None:
    tuning.folder.write_text("mine")
    with pytest.raises(FileError, match="is a file, and a tune writes a folder"):
        tuning.run(tuning.world())
    assert tuning.folder.read_text() == "mine"


def test_a_measure_that_cannot_tell_of_some_pictures_leads_all_the_same(tuning: Tuning) -> None:
    class Partly(Figure):
        def __call__(self, pictures: list[object]) -> np.ndarray:  # type: ignore[override]
            values = super().__call__(pictures)  # type: ignore[arg-type]
            return np.where([picture.seed == 1 for picture in pictures], np.nan, values)  # type: ignore[attr-defined]

    def partly(*pictures: object) -> MeasureSet:
        return MeasureSet((Partly("hands", "lower"),), figures([], []).kept)

    result = tuning.run(tuning.world(), measures=partly)
    assert result.held.estimates("tuned")["hands"].mean < result.held.estimates("before")["hands"].mean - 0.5


def test_the_amount_of_the_subtracted_lora_is_searched_too(tuning: Tuning, lora: Path) -> None:
    terms = [Term(read(lora), 1.0, label="ink"), Term(read(lora), -0.3, label="base_style")]
    space = Space.of(terms, amount=True)
    assert space.names[-1] == "amount" and len(space.names) == 18
    point = space.start.copy()
    point[-1] = 0.5
    moved = space.terms_at(point)
    assert moved[1].weight == -0.15 and moved[0].vector is not None
    (stack,) = space.stacks([point])
    name = next(name for name in stack.deltas if ".up_blocks.1." in name)
    parts = {term.label: strength for term, strength in stack.deltas.parts(name)}  # type: ignore[attr-defined]
    assert parts == pytest.approx({"ink": 1.0, "base_style": -0.15})
    with_amount = Tuning(space, tuning.folder)
    world = with_amount.world(hands={"amount": 4.5}, style={"OUT06": 6.0})
    result = with_amount.run(world, amount=True)
    assert result.amount is not None and result.amount < 0.9
    assert result.json()["amount"] == result.amount and "amount" not in result.json()["vector"]


def test_blocks_may_come_from_an_earlier_epoch(tuning: Tuning, lora: Path, tmp_path: Path) -> None:
    early = save(tmp_path / "early.safetensors", lora_tensors("sd1", rank=1, seed=7))
    space = Space.of([Term(read(lora), 0.8, label="ink@8")], earlier=Term(read(early), 1.0, label="ink@4"))
    assert len(space.names) == 34 and space.names[17] == "earlier BASE" and not space.blend(space.start)["OUT08"]
    assert set(space.vector(space.start)) == set(space.names[:17])
    point = space.start.copy()
    point[space.names.index("OUT08")], point[space.names.index("earlier OUT08")] = 0.5, 0.25
    (stack,), terms = space.stacks([point]), space.terms_at(point)
    assert [term.label for term in terms] == ["ink@8", "ink@4"]
    for name in stack.deltas:
        shown = {term.label: strength for term, strength in stack.deltas.parts(name)}  # type: ignore[attr-defined]
        merged = {term.label: term.strength(name) for term in terms if term.strength(name)}
        assert shown == pytest.approx(merged), name
        if ".up_blocks.2.attentions.2." in name:
            assert shown == pytest.approx({"ink@8": 0.8 * 0.5 * 0.75, "ink@4": 0.8 * 0.5 * 0.25})
    assert len(space.terms_at(space.start)) == 1
    world = World(
        space.names, hands={"OUT08": 2.5, "OUT09": 2.5, "earlier OUT09": -6.0}, style={"OUT08": 3, "OUT09": 3}
    )
    result = Tuning(space, tuning.folder).run(world)
    blend = result.blend
    assert blend is not None and result.json()["earlier"] == blend and result.verdict.answer == "tuned"
    assert blend["OUT09"] > 0.2 and "of ink@4: " in result.text()
