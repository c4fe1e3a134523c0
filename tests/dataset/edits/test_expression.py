"""The filter language: what it lets through, and what it says of a mistake."""

from __future__ import annotations

import pytest

from loratools.dataset.edits.expression import read_where
from loratools.dataset.edits.subject import TagCounts, TaggedPicture
from loratools.dataset.tags.picture import Picture
from loratools.dataset.tags.tag import Tag
from loratools.errors import OptionError

PICTURE = Picture(
    "10_face/a.png",
    (Tag("1girl", score=0.9), Tag("blue hair", score=0.6), Tag("miku (vocaloid)", "character"), Tag(">_<")),
    group="g1",
)
OTHER = Picture("20_main/b.png", (Tag("1girl"), Tag("smile")))
COUNTS = TagCounts.of([PICTURE, OTHER])


def passes(text: str, picture: Picture = PICTURE, tag: Tag | None = None) -> bool:
    return read_where(text)(TaggedPicture(picture, COUNTS, lambda _: (640, 960), tag))


@pytest.mark.parametrize(
    "text",
    [
        "1girl and not smile",
        "not (smile or full body)",
        "!smile",
        "BLUE_HAIR",
        "blue hair and 1girl",
        '"blue hair"',
        "*hair",
        "miku (vocaloid)",
        "miku_(vocaloid)",
        r"miku \(vocaloid\)",
        "(miku (vocaloid))",
        "(1girl and (miku_(vocaloid)))",
        "smile or >_<",
        "file:10_face/*.png",
        "file:a.png",
        "file:*/A.PNG and not file:b*",
        "tags=4",
        "tags >= 4 and tags<5",
        "width<height",
        "ratio<0.7",
        "folder=10_*",
        "group=g1",
        "group!=g2 or smile",
        "smile and smile or 1girl",
    ],
)
def test_these_let_the_picture_through(text: str) -> None:
    if text == "width<height":  # a field is compared with a number, not with another field
        with pytest.raises(OptionError, match="is no number"):
            read_where(text)
        return
    assert passes(text)


@pytest.mark.parametrize(
    "text", ["smile", "hair", "1girl and smile", "not 1girl", "file:*.jpg", "file:face/*", "tags>4", "ratio>1"]
)
def test_these_do_not(text: str) -> None:
    assert not passes(text)


@pytest.mark.parametrize(
    ("text", "tag", "expected"),
    [
        ("share>50%", Tag("1girl"), True),
        ("share>50%", Tag("smile"), False),
        ("share>=0.5", Tag("smile"), True),
        ("count=2", Tag("1girl"), True),
        ("score<0.7", Tag("x", score=0.6), True),
        ("score<0.7", Tag("x"), False),
        ("category=character", Tag("x", "character"), True),
        ("source!=wd*", Tag("x", source="wd-v3"), False),
        ("share>50% and not smile", Tag("1girl"), True),
    ],
)
def test_fields_of_the_tag(text: str, tag: Tag, expected: bool) -> None:
    assert read_where(text).of_tag and passes(text, tag=tag) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a tag or a field is missing"),
        ("smile and", "a tag or a field is missing"),
        ("(smile", "a closing bracket is missing"),
        ("smile) and", "belongs to nothing"),
        ('"smile', "close the quotes"),
        ("shar>40%", "did you mean 'share'"),
        ("share>many", "is no number"),
        ("share>", "compared with nothing"),
        ("folder>3", "is text"),
    ],
)
def test_mistakes_are_named(text: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        read_where(text)


def test_words_may_stand_for_tags() -> None:
    where = read_where("蓝发 and not 微笑", {"蓝发": "blue hair", "微笑": "smile"}.get)  # type: ignore[arg-type]
    assert where(TaggedPicture(PICTURE, COUNTS, lambda _: (1, 1)))
    assert not where(TaggedPicture(OTHER, COUNTS, lambda _: (1, 1)))
