"""Thresholds and what they take of a tagger's probabilities."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loratools.dataset.tagging.choose import TagChoice, choose
from loratools.dataset.tagging.probabilities import Scores
from loratools.dataset.tagging.thresholds import Threshold, character_threshold, mcut, read_threshold
from loratools.errors import OptionError

SCORES = Scores(
    {
        "rating": {"rating:general": 0.8, "rating:explicit": 0.1},
        "general": {"1girl": 0.98, "hat": 0.3, "smile": 0.6, "bow": 0.28},
        "character": {"miku": 0.9, "rin": 0.5},
        "copyright": {"vocaloid": 0.7},
        "artist": {"someone": 0.9},
        "quality": {"best quality": 0.6, "bad quality": 0.2},
    }
)


def names(**options: object) -> list[str]:
    given_ = {"threshold": Threshold(0.29), "character_threshold": Threshold(0.6), **options}
    return [tag.name for tag in choose(SCORES, TagChoice(**given_), "wd").tags]  # type: ignore[arg-type]


def test_tags_by_score_with_names_first_and_the_rest_set_aside() -> None:
    chosen = choose(SCORES, TagChoice(Threshold(0.29), Threshold(0.6)), "wd")
    assert [tag.name for tag in chosen.tags] == ["miku", "vocaloid", "1girl", "smile", "hat"]
    assert {(tag.name, tag.category) for tag in chosen.set_aside} == {
        ("rating:general", "rating"),
        ("someone", "artist"),
        ("best quality", "quality"),
    }
    assert all(tag.source == "wd" and tag.score is not None for tag in (*chosen.tags, *chosen.set_aside))


def test_order_places_and_exclusion() -> None:
    assert names(order="model") == ["miku", "vocaloid", "1girl", "hat", "smile"]
    assert names(characters="last", rating="first")[0] == "rating:general"
    assert names(characters="last")[-2:] == ["miku", "vocaloid"]
    assert names(characters="none") == ["1girl", "smile", "hat"]
    assert names(exclude=("*at", "MIKU")) == ["vocaloid", "1girl", "smile"]
    assert names(character_threshold=Threshold(0.5))[:2] == ["miku", "rin"]


def test_mcut_is_by_picture_and_category() -> None:
    assert names(threshold=Threshold(None)) == ["miku", "vocaloid", "1girl"]  # from 0.98 to 0.6 is widest


def test_mcut_counts_what_was_not_kept() -> None:
    """The widest gap may lie between the last probability that is kept and the first that is not."""
    scores = Scores({"general": {"a": 0.9, "b": 0.6}}, {"general": 0.04})
    assert [tag.name for tag in choose(scores, TagChoice(Threshold(None), Threshold(1)), "").tags] == ["a", "b"]


@given(st.lists(st.floats(0, 1), min_size=2, max_size=30))
def test_mcut_lies_in_the_middle_of_a_widest_gap(values: list[float]) -> None:
    ordered = sorted(values)
    gaps = [high - low for low, high in pairwise(ordered)]
    cut = mcut(values)
    assert any(
        gap == max(gaps) and math.isclose(cut, (low + high) / 2, abs_tol=1e-12)
        for gap, low, high in zip(gaps, ordered, ordered[1:], strict=False)
    )
    assert mcut(values, 0.5) >= 0.5 and mcut([0.4]) == 1.0


def test_the_models_own_table() -> None:
    swin, eva = "wd-swinv2-tagger-v3", "models--SmilingWolf--WD-EVA02-large-tagger-v3"
    assert read_threshold(None, swin, "wd").value == 0.2653 == read_threshold("balanced", swin, "wd").value
    precise, many = (read_threshold(word, eva, "wd").value or 0 for word in ("precise", "many"))
    odds = [value / (1 - value) for value in (many, 0.5296, precise)]
    assert odds[1] / odds[0] == pytest.approx(math.e) == odds[2] / odds[1]
    assert read_threshold("0.4", swin, "wd").value == 0.4 and read_threshold("MCut", swin, "wd").value is None
    assert read_threshold(None, "model", "wd").value is None  # nobody says: MCut
    assert read_threshold(None, "cl", "cl").value == 0.55
    assert character_threshold(None, "wd").value == 0.85 and character_threshold("mcut", "wd").value is None


@pytest.mark.parametrize("text", ["strict", "1.5", "0.01", ""])
def test_thresholds_that_are_none(text: str) -> None:
    with pytest.raises(OptionError, match="write precise, balanced, many, mcut or a number"):
        read_threshold(text, "wd-swinv2-tagger-v3", "wd")
    with pytest.raises(OptionError, match="write precise"):
        character_threshold(text, "wd")


def test_a_word_for_a_model_that_no_table_knows() -> None:
    with pytest.raises(OptionError, match="what is precise for my-model is not known"):
        read_threshold("precise", "my-model", "wd")
