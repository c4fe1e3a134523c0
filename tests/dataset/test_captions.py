from __future__ import annotations

import random

from loratools.dataset.captions import CaptionRules, Moment, tag_frequency, tags_of, vary, written_tags

TEXT = "a, b, c, d, e, f"


def _many(rules: CaptionRules, count: int = 300) -> list[str]:
    return [vary(TEXT, rules, random.Random(seed)) for seed in range(count)]


def test_without_rules_the_text_is_left_as_written() -> None:
    assert vary("a,b ,  c", CaptionRules(), random.Random(0)) == "a,b ,  c"


def test_shuffle_keeps_the_first_tags_and_loses_none() -> None:
    seen = _many(CaptionRules(shuffle=True, keep=2))
    assert all(text.startswith("a, b, ") and sorted(tags_of(text)) == list("abcdef") for text in seen)
    assert len(set(seen)) == 24  # 4! orders of the rest


def test_keep_beyond_the_end_keeps_everything() -> None:
    assert set(_many(CaptionRules(shuffle=True, keep=9), 20)) == {TEXT}


def test_dropout_empties_about_that_share() -> None:
    empty = sum(text == "" for text in _many(CaptionRules(dropout=0.3), 2000))
    assert 500 < empty < 700


def test_tag_dropout_spares_kept_tags_and_keeps_the_order() -> None:
    seen = _many(CaptionRules(tag_dropout=0.5, keep=1), 1000)
    assert all(tags_of(text)[0] == "a" and tags_of(text) == sorted(tags_of(text)) for text in seen)
    assert 2300 < sum(len(tags_of(text)) - 1 for text in seen) < 2700


def test_prefix_and_suffix_are_joined_before_the_shuffle() -> None:
    rules = CaptionRules(shuffle=True, keep=1, prefix="style,", suffix=", end")
    assert vary("a, b", rules, random.Random(0)).startswith("style, ")
    assert sorted(tags_of(vary("a, b", rules, random.Random(0)))) == ["a", "b", "end", "style"]


def test_a_caption_is_a_function_of_its_generator() -> None:
    rules = CaptionRules(shuffle=True, dropout=0.2, tag_dropout=0.2)
    assert vary(TEXT, rules, random.Random(5)) == vary(TEXT, rules, random.Random(5))


def test_tag_frequency_counts_captions() -> None:
    assert tag_frequency(["a, b", "b,, c ", ""]) == {"a": 1, "b": 2, "c": 1}


def test_a_separator_sets_kept_tags_apart_at_both_ends() -> None:
    rules = CaptionRules(shuffle=True, keep_separator="|||")
    seen = {vary("a, b ||| c, d, e ||| f", rules, random.Random(seed)) for seed in range(100)}
    assert len(seen) == 6 and all(text.startswith("a, b, ") and text.endswith(", f") for text in seen)


def test_a_secondary_separator_binds_tags() -> None:
    rules = CaptionRules(shuffle=True, secondary_separator=";;;")
    assert all("x,y" in vary("a, x;;;y, b", rules, random.Random(seed)) for seed in range(20))


def test_wildcards_draw_a_line_and_an_alternative_but_not_escaped_braces() -> None:
    rules = CaptionRules(wildcards=True, prefix="p")
    seen = {vary("a {b|c}\n{{d}}", rules, random.Random(seed)) for seed in range(100)}
    assert seen == {"p a b", "p a c", "p {d}"}


def test_every_nth_epoch_has_no_captions() -> None:
    rules = CaptionRules(dropout_every=3)
    assert [bool(vary(TEXT, rules, random.Random(0), Moment(epoch))) for epoch in (1, 2, 3, 4)] == [
        True,
        True,
        False,
        True,
    ]


def test_warm_up_adds_tags_in_a_line_after_the_kept_ones() -> None:
    rules = CaptionRules(keep=1, warmup=0.5, warmup_min=1)
    counts = [len(tags_of(vary(TEXT, rules, random.Random(0), Moment(1, batch, 20)))) for batch in range(12)]
    assert counts == [2, 2, 2, 3, 3, 4, 4, 4, 5, 5, 6, 6]
    assert vary(TEXT, CaptionRules(warmup=8), random.Random(0), Moment(1, 4, 20)) == "a, b, c"


def test_written_tags_know_the_folders_separators() -> None:
    rules = CaptionRules(keep_separator="|||", secondary_separator=";;;")
    assert written_tags("a ||| b, c;;;d\ne", rules) == ["a", "b", "c", "d", "e"]
