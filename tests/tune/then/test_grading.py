"""Which pictures are learnt from: good ones that keep style and prompt, spread over prompts; pairs of good and bad."""

from __future__ import annotations

import numpy as np
import pytest

from loratools.errors import TuneError
from loratools.measures.measure import Shown
from loratools.tune.problem.effort import FULL, QUICK
from loratools.tune.problem.goals import goals_of
from loratools.tune.problem.request import TuneRequest
from loratools.tune.problem.then import MOST, ThenEffort, pictures_of, read_ways
from loratools.tune.then.grading import Graded, paired_by_prompt, spread_over_prompts

WHOLE = {"hands": [2.0, 2.2, 1.8, 2.0], "style": [0.9, 1.0, 0.8, 0.9]}
BASE = {"hands": [0.0] * 4, "style": [0.1] * 4}
GOALS = goals_of({"hands": "lower"}, {"style": "higher"}, WHOLE, BASE, 0.95)


def graded(hands: list[float], style: list[float] | None = None, prompts: list[str] | None = None) -> Graded:
    names = prompts or [f"prompt {number}" for number in range(len(hands))]
    shown = [Shown(np.zeros((2, 2, 3), np.uint8), name, seed) for seed, name in enumerate(names)]
    return Graded.of(shown, {"hands": hands, "style": style or [0.95] * len(hands)}, GOALS)


def test_good_pictures_are_half_way_to_the_base_and_keep_the_style_the_best_first() -> None:
    own = graded([2.0, 0.3, 0.1, 0.0, 1.2, float("nan")], style=[0.95, 0.95, 0.95, 0.2, 0.95, 0.95])
    assert own.good() == [2, 1], "one without the style, and one that no measure can tell of, are not learnt from"
    assert own.bad() == [0, 4]
    assert own.good(0.1) == [2] and not own.is_sound
    assert graded([0.0, 0.1, 0.05, 0.0]).is_sound


def test_no_prompt_has_more_than_twice_its_share() -> None:
    own = graded([0.0] * 6 + [0.2] * 6 + [3.0] * 12, prompts=["hidden hands"] * 6 + ["a", "b", "c"] * 6)
    assert own.good()[:6] == [0, 1, 2, 3, 4, 5]
    chosen = spread_over_prompts(own, own.good(), 4)
    assert [own.shown[number].prompt for number in chosen].count("hidden hands") == 2 and len(chosen) == 4


def test_pairs_are_of_one_prompt_each_and_the_clearest_come_first() -> None:
    own = graded([0.0, 2.5, 0.3, 2.0, 2.2, 2.4, 0.1], prompts=["a", "a", "b", "b", "c", "c", "d"])
    good, bad = paired_by_prompt(own, 5)
    assert (good, bad) == ([0, 2], [1, 3])
    assert paired_by_prompt(own, 1) == ([0], [1])
    assert [own.shown[number].prompt for number in good] == [own.shown[number].prompt for number in bad]


def test_ways_are_read_and_mistakes_are_sentences() -> None:
    assert read_ways(["picks", " Search,picks "]) == ("picks", "search", "picks")
    for texts, message in (
        (["pick"], "did you mean 'picks'"),
        (["search"], "is a search already"),
        (["picks"] * (MOST + 1), "too many"),
    ):
        with pytest.raises(TuneError, match=message):
            read_ways(texts)
    with pytest.raises(TuneError, match="there is no way"):
        TuneRequest(("hands",), then=("dance",))
    assert TuneRequest(("hands",), then=("picks",)).facts() == TuneRequest(("hands",)).facts(), "the search's own key"


def test_a_quick_tune_has_a_quick_way() -> None:
    whole, quick = ThenEffort.of(FULL), ThenEffort.of(QUICK)
    assert whole.candidates == 2 * quick.candidates and whole.most == 2 * quick.most
    for effort in (whole, quick):
        assert effort.candidates % effort.prompts == 0 and effort.least * 3 == effort.most
    assert pictures_of("picks", QUICK, 12, 36) < pictures_of("picks", FULL, 24, 48)
    assert pictures_of("picks", FULL, 24, 48) < pictures_of("defect-lora", FULL, 24, 48)
