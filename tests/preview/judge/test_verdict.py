"""The 0.9 test on drawn pictures: styles pass, noise and blots do not, and no change is reported."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from loratools.pocket.draw import STYLES, draw, random_figure
from loratools.preview.judge.verdict import PictureMeasures, Pixels, Verdict, judge_pictures

SEEDS = (1, 2, 3)


def drawn(style: str) -> list[Pixels]:
    figures = [random_figure(random.Random(seed)) for seed in SEEDS]
    images = [draw(replace(figure, style=style), seed).image for figure, seed in zip(figures, SEEDS, strict=True)]
    return [np.asarray(image.convert("RGB"), dtype=np.float32) for image in images]


def judge_row(pictures: dict[float, list[Pixels]]) -> Verdict:
    return judge_pictures({weight: [PictureMeasures(picture) for picture in own] for weight, own in pictures.items()})


def mixed(one: list[Pixels], two: list[Pixels], share: float) -> list[Pixels]:
    return [(1 - share) * a + share * b for a, b in zip(one, two, strict=True)]


def blots(pictures: list[Pixels]) -> list[Pixels]:
    """Spots of a few pixels in every colour, as a broken UNet gives them."""
    noise = np.random.default_rng(0)
    coarse = [noise.uniform(0, 255, (*(side // 8 for side in picture.shape[:2]), 3)) for picture in pictures]
    return [np.kron(spots, np.ones((8, 8, 1))).astype(np.float32) for spots in coarse]


BASE = drawn("house")


@pytest.mark.parametrize("style", [name for name in STYLES if name != "house"])
def test_a_style_passes(style: str) -> None:
    verdict = judge_row({0.0: BASE, 0.5: mixed(BASE, drawn(style), 0.5), 1.0: drawn(style)})
    assert verdict.level == "good" and verdict.holds == 1.0 and verdict.moved > 5
    assert verdict.text == "0.9 test: passes, holds up to 1"


@pytest.mark.parametrize(
    ("ruin", "why"),
    [
        (blots, "falls apart"),
        (lambda pictures: [np.random.default_rng(0).uniform(0, 255, p.shape) for p in pictures], "falls apart"),
        (lambda pictures: [p * 0.1 + 110 for p in pictures], "fades"),
        (lambda pictures: [np.where(p > 110, 255.0, 0.0) for p in pictures], "burnt"),
        (lambda pictures: [pictures[0]] * len(pictures), "one picture for all prompts and seeds"),
    ],
    ids=["blots", "noise", "fades", "burnt", "the same"],
)
def test_a_broken_picture_is_told_with_its_weight_and_reason(ruin, why: str) -> None:  # type: ignore[no-untyped-def]
    verdict = judge_row({0.0: BASE, 0.6: BASE, 0.8: ruin(BASE), 1.0: ruin(BASE)})
    assert verdict.level == "over" and (verdict.holds, verdict.breaks, verdict.why) == (0.6, 0.8, why)
    late = judge_row({0.0: BASE, 0.9: mixed(BASE, drawn("ink"), 0.1), 1.2: ruin(BASE)})
    assert late.level == "good" and late.text == f"0.9 test: passes, breaks at 1.2 ({why})"


def elsewhere(pictures: list[Pixels]) -> list[Pixels]:
    """Whole pictures with the same spectrum, outlines and colours in other places."""
    return [np.ascontiguousarray(255 - picture[::-1]) for picture in pictures]


def test_another_whole_picture_is_told_and_does_not_fail() -> None:
    verdict = judge_row({0.0: BASE, 0.6: BASE, 0.9: elsewhere(BASE), 1.0: elsewhere(BASE)})
    assert verdict.text == "0.9 test: passes, holds up to 1; another picture than the base's from 0.9 on"
    assert (verdict.level, verdict.holds, verdict.breaks) == ("note", 1.0, None)
    late = judge_row({0.0: BASE, 1.0: mixed(BASE, drawn("ink"), 0.5), 1.2: elsewhere(BASE)})
    assert late.level == "good"  # above 1 that is to be expected
    one = judge_row({0.0: BASE, 1.0: [*elsewhere(BASE[:1]), *drawn("ink")[1:]]})
    assert one.level == "good"  # one of three


def test_what_lies_between_two_weights_is_left_open() -> None:
    verdict = judge_row({0.0: BASE, 0.75: BASE, 1.0: blots(BASE)})
    assert verdict.text == "0.9 test: open, holds at 0.75 and breaks at 1 (falls apart)"
    assert (verdict.level, verdict.holds, verdict.breaks) == ("note", 0.75, 1.0)
    assert judge_row({0.0: BASE, 0.75: BASE, 0.9: blots(BASE)}).level == "over"
    assert judge_row({0.0: BASE, 1.0: blots(BASE)}).level == "over"  # nothing says that it ever holds
    late = judge_row({0.0: BASE, 1.5: blots(BASE)})
    assert late.level == "note" and late.text.startswith("0.9 test: open, breaks at 1.5 and no weight up to 0.9 was")


def test_one_broken_picture_of_three_does_not_fail_a_row_and_one_of_two_does() -> None:
    some = [blots(BASE)[0], *drawn("ink")[1:]]
    assert judge_row({0.0: BASE, 1.0: some}).level == "good"
    assert judge_row({0.0: BASE[:2], 1.0: some[:2]}).text == "0.9 test: fails, breaks at 1 (falls apart)"


def test_what_changes_nothing_is_told_and_what_was_not_tested() -> None:
    nudged = [picture + 0.9 for picture in BASE]
    verdict = judge_row({0.0: BASE, 0.5: BASE, 1.0: nudged})
    assert verdict.level == "under" and verdict.text == "changes nothing in the picture, up to a weight of 1"
    assert judge_row({0.0: BASE, 1.0: [picture + 2 for picture in BASE]}).level == "good"
    assert judge_row({0.0: BASE, 0.5: drawn("ink")}).text == "0.9 test: not reached; holds up to 0.5"
    assert judge_row({0.0: BASE, -1.0: drawn("ink")}).text == "0.9 test: no weight above 0 was rendered"
    assert judge_row({0.0: BASE}).level == "note"
