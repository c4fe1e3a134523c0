"""Ways one after another on made-up pictures: what is taken, what is not and why, and what a stop leaves."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from loratools.adapter.files.file import read
from loratools.measures.measure import Shown
from loratools.ops.merging.terms import Term
from loratools.preview.record.cells import SamplingSettings
from loratools.tune import run as tune_run
from loratools.tune.folder import TuneFolder
from loratools.tune.history import Generation, History
from loratools.tune.problem.prompts import Shot, split_prompts
from loratools.tune.problem.request import TuneRequest
from loratools.tune.problem.space import Space
from loratools.tune.progress import Clock
from loratools.tune.report.result import TuneResult
from loratools.tune.run import TuneRun, write_files
from loratools.tune.then import chain
from loratools.tune.then.chain import Begun, Follow, follow
from loratools.tune.then.material import material_of
from loratools.tune.then.way import Made, Turn
from loratools.tune.then.workplace import Workplace
from tests.loras import lora_tensors, save
from tests.tune.vectors.conftest import PROMPTS, TINY, World, encoded, figures

SETTINGS = SamplingSettings(2, 5.0, "DDIM", (64, 64))


class NoBase:
    name, source = "made up", ""


@dataclass
class Ways:
    """Follows a made-up search by made-up ways: a LoRA's label says what its pictures look like."""

    space: Space
    folder: Path
    lora: Path

    @property
    def world(self) -> World:
        """Most of the defect sits where the style does, so that no vector takes it all out."""
        return World(self.space.names, hands={"OUT08": 1.5, "OUT06": 2.0, "OUT11": 2.0})

    def made(self, hands: float, style: float = 0.98, says: str = "made up") -> Made:
        return Made((Term(read(self.lora), 1.0, label=f"{hands} {style}"),), says, {"kept": 3})

    def follow(
        self,
        monkeypatch: pytest.MonkeyPatch,
        makers: dict[str, Callable[[Turn], Made]],
        then: Sequence[str],
    ) -> TuneResult:
        monkeypatch.setattr(chain, "_MAKERS", makers)
        request = TuneRequest(("hands",), PROMPTS, seeds=(1, 2), effort=TINY, then=tuple(then))
        shots = split_prompts(PROMPTS, (1, 2), TINY, 1)
        own = TuneRun(
            self.space,
            request,
            shots,
            self.world,
            figures,
            "key",
            TuneFolder(self.folder),
            2,
            lambda _: None,
            lambda _: None,
        )
        result = own.run("test")
        world = self.world
        base, whole = (
            [Shown(encoded(world.figures(point, shot)), shot.prompt, shot.seed) for shot in shots.search]
            for point in (None, self.space.start)
        )
        begun = Begun(figures(base, whole), base, whole)
        followed = follow(result, own, begun, Follow(NoBase(), SETTINGS, SETTINGS, lambda _: None), "test")  # type: ignore[arg-type]
        write_files(followed, "test")
        return followed


def painted(_: Workplace, name: str, terms: Sequence[Term], shots: Sequence[Shot], *, fine: bool) -> list[Shown]:
    hands, style = map(float, terms[0].label.split())
    random = np.random.default_rng(1)
    rows = [(hands + random.normal(0, 0.02), style + random.normal(0, 0.005), 0.97) for _ in shots]
    return [Shown(encoded(row), shot.prompt, shot.seed) for row, shot in zip(rows, shots, strict=True)]


@pytest.fixture
def ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ways:
    monkeypatch.setattr(tune_run, "write_both", lambda result: None)
    monkeypatch.setattr(Workplace, "pictures", painted)
    lora = save(tmp_path / "ink.safetensors", lora_tensors("sd1", rank=1))
    return Ways(Space.of([Term(read(lora), 1.0, label="ink")]), tmp_path / "tuned", lora)


def test_what_held_out_pictures_call_better_is_the_answer(ways: Ways, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Turn] = []

    def maker(turn: Turn) -> Made:
        seen.append(turn)
        return ways.made(0.11 if turn.number == 1 else 2.0)

    result = ways.follow(monkeypatch, {"picks": maker}, ["picks", "picks"])
    content = json.loads((ways.folder / "tune.json").read_text())
    first, second = content["then"]
    assert content["answer"] == result.answer == "1-picks" and first["helped"] and not second["helped"]
    assert content["after"] == first["figures"] and content["after"]["hands"]["mean"] < 0.2
    assert first["before"] == "tuned" and second["before"] == "1-picks" and second["change"]["hands"]["mean"] > 1
    assert first["kept"] == 3 and "made up" in first["reason"] and "stays 1-picks" in second["reason"]
    assert [turn.answers for turn in seen] == [1, 2], "the second one goes on from what the first one made"
    assert seen[1].terms[0].label == "0.11 0.98"
    assert read(result.file).digest == read(ways.lora).digest or set(read(result.file)) == set(read(ways.lora))
    assert "the answer is 1-picks" in result.text()


def test_what_loses_the_style_or_is_not_clearly_better_is_not_taken(
    ways: Ways, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = ways.follow(monkeypatch, {"picks": lambda turn: ways.made(0.1, style=0.3)}, ["picks"])
    assert result.answer == "tuned" and "loses style" in result.then[0].reason
    hands = result.held.estimates("tuned")["hands"].mean
    again = Ways(ways.space, ways.folder.parent / "again", ways.lora)
    same = again.made(hands - 0.001)
    result = again.follow(monkeypatch, {"picks": lambda turn: same}, ["picks"])
    assert result.answer == "tuned" and "is no better" in result.then[0].reason


def test_a_way_that_can_make_nothing_says_why(ways: Ways, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Made((), "only 2 of 60 pictures are good", {"good": 2})
    result = ways.follow(monkeypatch, {"picks": lambda turn: made}, ["picks"])
    (way,) = json.loads((ways.folder / "tune.json").read_text())["then"]
    assert way["column"] is None and way["figures"] is None and way["good"] == 2 and result.finished
    assert "only 2 of 60 pictures are good; the answer stays tuned" in way["reason"]
    assert way["reason"] in result.text()


def test_a_stop_keeps_the_best_so_far(ways: Ways, monkeypatch: pytest.MonkeyPatch) -> None:
    def press(turn: Turn) -> Made:
        if turn.number == 2:
            turn.workplace.clock.begin("picks")
            signal.raise_signal(signal.SIGINT)
            turn.workplace.clock.picture()
        return ways.made(0.11)

    result = ways.follow(monkeypatch, {"picks": press}, ["picks", "picks", "picks"])
    assert result.answer == "1-picks" and not result.finished and len(result.then) == 1
    assert any("stop here" in note for note in result.notes) and result.file.is_file()


def test_a_budget_that_is_spent_begins_no_way(ways: Ways, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain.Chain, "_is_late", lambda *_: True)
    result = ways.follow(monkeypatch, {"picks": lambda turn: ways.made(0.11)}, ["picks"])
    assert result.answer == "tuned" and not result.then and not result.finished
    assert any("leaves no time for picks" in note for note in result.notes)


def test_what_is_late_is_known_by_the_time_of_pictures() -> None:
    history = History((Generation("search", ((1.0,),) * 10, (0, 1), {}, 40.0),), 2)  # 2 s a picture

    def late(budget: float | None, cost: int) -> bool:
        clock = Clock(cost, 0, budget, lambda _: None, lambda: False, lambda: 0.0)
        place = SimpleNamespace(clock=clock, costs={"picks": cost})
        return chain.Chain(place, "test")._is_late("picks", history)  # type: ignore[arg-type]

    assert late(100.0, 60) and not late(100.0, 40) and not late(None, 10**6)


def test_candidates_have_no_prompt_of_the_report_and_seeds_of_their_own(ways: Ways) -> None:
    tags = {"images": {f"tag{number}": 3 for number in range(6)} | {"1girl": 9}}
    lora = save(ways.lora.with_name("tagged.safetensors"), lora_tensors("sd1", rank=1))
    from loratools.adapter.header import encode_header, read_header

    header = read_header(lora)
    content = lora.read_bytes()[header.data_start :]
    lora.write_bytes(encode_header({**header.metadata, "ss_tag_frequency": json.dumps(tags)}, header.tensors) + content)
    space = Space.of([Term(read(lora), 1.0, label="tagged")])
    split = split_prompts(PROMPTS, (1, 2), TINY, 1)
    request = TuneRequest(("hands",), PROMPTS, seeds=(1, 2), effort=TINY)
    material = material_of(space, request, split, "other", 6)
    assert len(material.prompts) == 6 and not material.taught
    first, second = material.shots(30, split, 1), material.shots(30, split, 2)
    more = material.shots(30, split, 1, turn=1)
    seeds = [{shot.seed for shot in own} for own in (first, more, second, split.search, split.held_out)]
    assert len(first) == 30 and sum(map(len, seeds)) == len(set().union(*seeds)), "no seed is another one's"
    assert not {shot.prompt for shot in first} & {shot.prompt for shot in split.held_out}
    bare = material_of(ways.space, request, split, "other", 6)
    assert set(bare.prompts) == {shot.prompt for shot in split.search}, "without tags and pictures: the search's own"
