"""Each operation on one picture's tags."""

from __future__ import annotations

from pathlib import Path

import pytest

from loratools.dataset.edits.operations import (
    Add,
    AnyOperation,
    Move,
    Prune,
    Remove,
    Replace,
    Sort,
    Trigger,
    operation_from_json,
    operation_json,
)
from loratools.dataset.edits.prune import PruneRules, core_tags, read_implications, redundant
from loratools.dataset.tags.picture import Picture
from loratools.dataset.tags.tag import Tag
from loratools.errors import DatasetError, OptionError


def picture(caption: str, file: str = "a.png") -> Picture:
    return Picture(file, tuple(Tag(name) for name in caption.split(", ")))


@pytest.mark.parametrize(
    ("operation", "before", "after"),
    [
        (Add(("smile",)), "1girl, hat", "1girl, hat, smile"),
        (Add(("smile", "hat"), "front"), "1girl, hat", "smile, 1girl, hat"),
        (Add(("a", "b"), "2"), "1girl, hat", "1girl, a, b, hat"),
        (Add(("a",), "9"), "1girl", "1girl, a"),
        (Add(("Long hair",)), "long_hair", "long_hair"),
        (Remove(("hat", "* hair")), "1girl, hat, blue hair, straw hat", "1girl, straw hat"),
        (Replace(("blue hair",), ("aqua hair",)), "1girl, blue_hair, hat", "1girl, aqua hair, hat"),
        (Replace(("*hair",), ("hat", "bow")), "hat, blue hair, red hair", "hat, bow"),
        (Replace(("x",), ("y",)), "a, b", "a, b"),
        (Move(("hat", "1girl")), "a, 1girl, b, hat", "hat, 1girl, a, b"),
        (Move(("a",), "end"), "a, b, c", "b, c, a"),
        (Move(("c",), "2"), "a, b, c", "a, c, b"),
        (Sort(), "hat, 1girl, solo, bow", "solo, 1girl, hat, bow"),
        (Sort("name", keep=1), "ink, hat, bow", "ink, bow, hat"),
        (Trigger("ink_style"), "1girl, ink_style, hat", "ink_style, 1girl, hat"),
        (Trigger("new", "old"), "old, 1girl", "new, 1girl"),
    ],
)
def test_an_operation(operation: AnyOperation, before: str, after: str) -> None:
    assert operation.apply(picture(before), lambda tag: True).caption() == after
    assert operation_from_json(operation_json(operation)) == operation  # so a log can hold it


def test_only_tags_that_the_filter_lets_through() -> None:
    result = Remove(("*",)).apply(picture("a, b, c"), lambda tag: tag.name == "b")
    assert result.caption() == "a, c"


def test_what_stays_keeps_its_score_and_category() -> None:
    tags = (Tag("hat", score=0.4, source="wd"), Tag("miku", "character", 0.9, "wd"), Tag("2girls", score=0.8))
    result = Sort().apply(Picture("a.png", tags), lambda tag: True)
    assert result.tags == (tags[2], tags[1], tags[0])
    assert Replace(("hat",), ("cap",)).apply(result, lambda tag: True).tags[2].category == "general"


@pytest.mark.parametrize(
    ("rules", "caption", "gone"),
    [
        (PruneRules(junk=True), "1girl, highres, bad id, artist name", {"highres", "bad id", "artist name"}),
        (PruneRules(overlaps=True), "shirt, white shirt, glasses, ass, hat, chatting", {"shirt"}),
        (PruneRules(overlaps=True), "hair, long hair, very long hair", {"hair", "long hair"}),
        (PruneRules(overlaps=True), "shoes, no shoes", set()),
        (PruneRules(overlaps=True, keep=("shirt",)), "shirt, white shirt", set()),
        (PruneRules(implications=(("bob cut", "short hair"),)), "bob cut, short hair, x", {"short hair"}),
        (PruneRules(implications=(("a", "b"), ("b", "c"), ("c", "a"))), "a, c, x", {"c"}),
        (PruneRules(core=("blue hair", "blue eyes")), "blue hair, smile", {"blue hair"}),
        (PruneRules(core=("blue hair",), character="miku"), "blue hair, smile", set()),
        (PruneRules(core=("blue hair",), character="miku"), "miku, blue hair, smile", {"blue hair"}),
        (PruneRules(contradictions=True), "1girl, 2girls, solo", {"1girl", "solo"}),
        (PruneRules(contradictions=True), "1girl, 1boy, solo, red hair, blue hair", {"solo", "red hair", "blue hair"}),
        (PruneRules(contradictions=True), "1girl, solo, red hair, blue hair", set()),
        (PruneRules(contradictions=True), "monochrome, blue hair, smile", {"blue hair"}),
    ],
)
def test_what_is_redundant(rules: PruneRules, caption: str, gone: set[str]) -> None:
    assert set(redundant(picture(caption), rules)) == gone
    operation = Prune(rules)
    kept = [name for name in caption.split(", ") if name not in gone]
    assert operation.apply(picture(caption), lambda tag: True).caption() == ", ".join(kept)
    assert operation_from_json(operation_json(operation)) == operation


def test_a_face_crop_shows_no_legs() -> None:
    crop = picture("portrait, full body, skirt, smile", "1_face/a.png")
    assert set(redundant(crop, PruneRules(contradictions=True))) == {"full body", "skirt"}
    assert not redundant(picture("full body, skirt", "1_full/a.png"), PruneRules(contradictions=True))


def test_of_counts_the_surer_one_stays() -> None:
    tags = (Tag("1girl", score=0.9), Tag("2girls", score=0.4))
    assert set(redundant(Picture("a.png", tags), PruneRules(contradictions=True))) == {"2girls"}


def test_core_tags_of_a_character() -> None:
    captions = [
        "miku, blue hair, smile, 1girl",
        "miku, blue hair, blue eyes, closed eyes, 1girl",
        "miku, blue hair, 1girl",
        "rin, hat",
    ]
    pictures = [picture(caption) for caption in captions]
    assert core_tags(pictures, 0.4, "miku") == {"blue hair": 1.0}
    assert core_tags(pictures, 0.3, "miku") == {"blue hair": 1.0, "blue eyes": pytest.approx(1 / 3)}
    assert "smile" in core_tags(pictures, 0.3, "miku", features=False)
    assert core_tags(pictures, 0.4) == {"blue hair": 0.75}
    with pytest.raises(OptionError, match="no picture has the tag 'luka'"):
        core_tags(pictures, 0.4, "luka")


def test_tables_of_implications(tmp_path: Path) -> None:
    table = tmp_path / "implications.csv"
    table.write_text("antecedent_name,consequent_name,status\nbob_cut,short_hair,active\n", encoding="utf-8")
    assert read_implications(table) == (("bob cut", "short hair"),)
    overlap = tmp_path / "overlap.json"
    overlap.write_text('{"short_hair": ["bob_cut", "pixie_cut"]}', encoding="utf-8")
    assert read_implications(overlap) == (("bob cut", "short hair"), ("pixie cut", "short hair"))
    table.write_text("bob_cut\n", encoding="utf-8")
    with pytest.raises(DatasetError, match="line 1 is no implication"):
        read_implications(table)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"kind": "remov", "tags": "a"}, "did you mean 'remove'"),
        ({"kind": "remove"}, "needs 'tags'"),
        ({"kind": "remove", "tags": "a", "att": "end"}, "has no option 'att'"),
        ({"kind": "add", "tags": "a", "at": "middle"}, "the place 'middle' is none"),
        ({"kind": "sort", "by": "size"}, "there is no order 'size'"),
        ({"kind": "replace", "tags": "a"}, "needs 'by'"),
        ({"kind": "trigger", "word": "a, b"}, "has no comma"),
        ({"kind": "prune", "rules": {"junky": True}}, "are no rules of pruning"),
    ],
)
def test_mistakes_are_named(value: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        operation_from_json(value)
