"""The drawing program: deterministic, legible, truthful about what it shows, and its faults grow with their grade."""

from __future__ import annotations

import dataclasses
import itertools
import random
import time

import numpy as np
import pytest
from numpy.typing import NDArray

from loratools.errors import PocketError
from loratools.pocket.draw import (
    ATTRIBUTES,
    FAULTS,
    STYLES,
    Drawing,
    Figure,
    contact_sheet,
    draw,
    expected_hands,
    random_figure,
)

FRAMINGS = ATTRIBUTES["framing"]
PLAIN = Figure(
    framing="cowboy_shot",
    hair_color="brown_hair",
    hair_style="short_hair",
    eye_color="green_eyes",
    skin="light_skin",
    clothes_color="blue_clothes",
    clothes="t-shirt",
    pose="arms_up",
    expression="smile",
    accessory="no_accessory",
    background="simple_background",
)


def with_(figure: Figure, **changes: object) -> Figure:
    return dataclasses.replace(figure, **changes)  # type: ignore[arg-type]


def pixels(figure: Figure, seed: int = 3) -> NDArray[np.float32]:
    return np.asarray(draw(figure, seed).image, dtype=np.float32)


def difference(a: Figure, b: Figure, seed: int = 3) -> float:
    return float(np.abs(pixels(a, seed) - pixels(b, seed)).mean())


@pytest.mark.parametrize("style", STYLES)
def test_same_figure_and_seed_give_the_same_pixels_and_another_seed_does_not(style: str) -> None:
    figure = random_figure(random.Random(1), style=style, faults=dict.fromkeys(FAULTS, 2))
    first, again, other = draw(figure, 7), draw(figure, 7), draw(figure, 8)
    assert first.image.tobytes() == again.image.tobytes()
    assert first.boxes == again.boxes
    assert first.image.tobytes() != other.image.tobytes()


def test_random_figures_are_reproducible_and_keep_what_is_fixed() -> None:
    free = random_figure(random.Random(5))
    fixed = random_figure(random.Random(5), hair_color="red_hair", style="ink", faults={"hands": 3})
    assert free == random_figure(random.Random(5))
    assert (fixed.hair_color, fixed.style, fixed.grade("hands")) == ("red_hair", "ink", 3)
    assert with_(fixed, hair_color=free.hair_color, style="house", faults={}) == free


def test_figure_has_exactly_the_attributes() -> None:
    names = [field.name for field in dataclasses.fields(Figure)]
    assert names == [*ATTRIBUTES, "style", "faults"]
    tags = list(itertools.chain.from_iterable(ATTRIBUTES.values()))
    assert len(tags) == len(set(tags)), "a tag belongs to one attribute"


def test_the_framings_and_the_splits_are_the_promised_ones() -> None:
    assert set(FRAMINGS) == {"face_focus", "cowboy_shot", "full_body"}
    assert [name for name, info in STYLES.items() if info.split == "house"] == ["house"]
    assert {name for name, info in STYLES.items() if info.split == "heldout"} >= {"ink", "neon", "watercolor"}
    tags = [info.tag for info in STYLES.values() if info.split != "house"]
    assert STYLES["house"].tag is None
    assert None not in tags
    assert len(set(tags)) == len(tags)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("framing", FRAMINGS)
def test_every_value_can_be_drawn_in_every_framing_and_style(framing: str, style: str) -> None:
    base = with_(PLAIN, framing=framing, style=style)
    columns = max(len(values) for values in ATTRIBUTES.values())
    for column in range(columns):  # every value of every attribute appears in at least one of these
        values = {name: tags[column % len(tags)] for name, tags in ATTRIBUTES.items() if name != "framing"}
        image = draw(with_(base, **values), column).image
        assert (image.mode, image.size) == ("RGB", (128, 128))


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_two_values_of_a_visible_attribute_give_different_pictures(attribute: str, framing: str) -> None:
    base = with_(PLAIN, framing=framing)
    figures = [with_(base, **{attribute: value}) for value in ATTRIBUTES[attribute]]
    drawn = [pixels(figure) for figure in figures if attribute in figure.visible()]
    for one, two in itertools.combinations(drawn, 2):
        assert np.abs(one - two).mean() > 0.25


@pytest.mark.parametrize("framing", FRAMINGS)
def test_boxes_lie_inside_the_picture_and_agree_with_the_expected_hands(framing: str) -> None:
    for seed in range(15):
        figure = random_figure(random.Random(seed), framing=framing, faults={"limbs": seed % 4})
        boxes = draw(figure, seed).boxes
        assert "face" in boxes
        for left, top, right, bottom in boxes.values():
            assert 0 <= left < right <= 128
            assert 0 <= top < bottom <= 128
        large = tuple(name for name in ("left_hand", "right_hand") if name in boxes and _longer_side(boxes[name]) >= 20)
        assert large == expected_hands(figure)


def _longer_side(box: tuple[float, float, float, float]) -> float:
    return max(box[2] - box[0], box[3] - box[1])


@pytest.mark.parametrize(
    ("framing", "low", "high"), [("face_focus", 26, 36), ("cowboy_shot", 26, 36), ("full_body", 15, 19.99)]
)
def test_hands_are_as_large_as_promised(framing: str, low: float, high: float) -> None:
    for seed, pose in itertools.product(range(4), ATTRIBUTES["pose"]):
        boxes = draw(random_figure(random.Random(seed), framing=framing, pose=pose), seed).boxes
        for name in boxes.keys() - {"face"}:
            assert low <= _longer_side(boxes[name]) <= high, (pose, name)


def test_every_pose_shows_a_hand_beyond_the_face_focus() -> None:
    for framing, pose in itertools.product(("cowboy_shot", "full_body"), ATTRIBUTES["pose"]):
        assert draw(with_(PLAIN, framing=framing, pose=pose), 0).boxes.keys() & {"left_hand", "right_hand"}
    assert expected_hands(with_(PLAIN, framing="face_focus", pose="waving")) == ("right_hand",)
    assert expected_hands(with_(PLAIN, framing="face_focus", pose="arms_at_sides")) == ()


def test_a_larger_picture_has_proportional_boxes() -> None:
    small, large = draw(PLAIN, 1), draw(PLAIN, 1, size=256)
    assert large.image.size == (256, 256)
    for name, box in small.boxes.items():
        assert large.boxes[name] == pytest.approx([2 * v for v in box])


def test_tags_name_only_what_is_visible() -> None:
    for seed, style in itertools.product(range(12), STYLES):
        figure = random_figure(random.Random(seed), style=style)
        tags, shown = figure.tags(), figure.visible()
        for name in ATTRIBUTES:
            assert (figure.value(name) in tags) == (name in shown and figure.value(name) != "no_accessory")
        assert len(set(tags)) == len(tags)
        tag = STYLES[style].tag
        assert tag is None or tags[0] == tag
    assert "pose" not in with_(PLAIN, framing="face_focus", pose="arms_at_sides").visible()
    assert "skin" not in with_(PLAIN, style="neon").visible()


def test_what_is_not_visible_does_not_change_the_picture() -> None:
    close = with_(PLAIN, framing="face_focus", pose="arms_at_sides")
    assert difference(close, with_(close, pose="spread_arms")) == 0
    assert difference(close, with_(close, faults={"limbs": 3, "hands": 3, "clothes": 3})) == 0
    neon = with_(PLAIN, style="neon")
    assert difference(neon, with_(neon, skin="dark_skin")) == 0


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_changes_the_picture_more_with_every_grade(fault: str) -> None:
    change = np.zeros(4)
    for seed in range(10):
        figure = random_figure(random.Random(seed), framing="cowboy_shot")
        sound = pixels(figure, seed)
        for grade in (1, 2, 3):
            change[grade] += np.abs(pixels(with_(figure, faults={fault: grade}), seed) - sound).mean()
    assert (np.diff(change) > 0).all(), change


@pytest.mark.parametrize("style", [name for name in STYLES if name != "house"])
@pytest.mark.parametrize("fault", FAULTS)
def test_every_style_shows_every_fault(fault: str, style: str) -> None:
    figure = with_(PLAIN, style=style)
    slight, bad = (difference(figure, with_(figure, faults={fault: grade})) for grade in (1, 3))
    assert 0 < slight < bad


def test_visible_faults_follow_framing_and_pose() -> None:
    assert PLAIN.visible_faults() == FAULTS
    close = with_(PLAIN, framing="face_focus")
    assert close.visible_faults() == ("hands", "face", "chaos")
    assert with_(close, pose="spread_arms").visible_faults() == ("face", "chaos")


def test_styles_are_unlike_each_other() -> None:
    drawn = {style: pixels(with_(PLAIN, style=style)) for style in STYLES}
    for one, two in itertools.combinations(drawn, 2):
        assert np.abs(drawn[one] - drawn[two]).mean() > 6, (one, two)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hair_color": "blu_hair"}, "did you mean 'blue_hair'"),
        ({"framing": "close_up"}, "valid: face_focus, cowboy_shot, full_body"),
        ({"style": "inc"}, "did you mean 'ink'"),
        ({"faults": {"hand": 1}}, "did you mean 'hands'"),
        ({"faults": {"hands": 4}}, "grades are 0"),
    ],
)
def test_unknown_words_are_errors_that_name_the_valid_ones(change: dict[str, object], message: str) -> None:
    with pytest.raises(PocketError, match=message):
        with_(PLAIN, **change)


def test_misused_calls_are_errors() -> None:
    with pytest.raises(PocketError, match="unknown attribute 'hair'"):
        random_figure(random.Random(0), hair="red_hair")
    with pytest.raises(PocketError, match="too small"):
        draw(PLAIN, 0, size=8)
    with pytest.raises(PocketError, match="contact sheet"):
        contact_sheet([], 4)


def test_a_contact_sheet_holds_every_picture() -> None:
    sheet = contact_sheet([PLAIN, draw(PLAIN, 1), with_(PLAIN, style="ink")], columns=2)
    assert sheet.size == (2 * 130 + 2, 2 * 130 + 2)
    assert isinstance(draw(PLAIN, 0), Drawing)


def test_a_picture_is_quick_to_draw() -> None:
    figures = [random_figure(random.Random(seed)) for seed in range(20)]
    draw(figures[0], 0)
    start = time.process_time()
    for seed, figure in enumerate(figures):
        draw(figure, seed)
    assert (time.process_time() - start) / len(figures) < 0.06  # about 0.01 on an idle core
