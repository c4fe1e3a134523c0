"""Names of tags, and a dataset folder's captions and record."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from loratools.dataset.tags.names import KAOMOJI, Named, booru_name, split_tags, with_category, written_name
from loratools.dataset.tags.picture import Picture
from loratools.dataset.tags.store import DatasetFolder, captioned
from loratools.dataset.tags.tag import Tag, tag_from_json, unique
from loratools.dataset.tags.vocabulary import is_junk
from loratools.dataset.walk import files_below
from loratools.errors import DatasetError


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("long_hair", "long hair"),
        (r"hatsune_miku_\(vocaloid\)", "hatsune miku (vocaloid)"),
        ("  a   b ", "a b"),
        ("_", "_"),
        *((kaomoji, kaomoji) for kaomoji in sorted(KAOMOJI)),
    ],
)
def test_a_tag_is_written_with_spaces_but_for_faces_of_characters(raw: str, name: str) -> None:
    assert written_name(raw) == name
    assert written_name(written_name(raw)) == name


def test_there_are_the_nineteen_kaomoji_and_they_survive_both_ways() -> None:
    assert len(KAOMOJI) == 19
    assert all(booru_name(written_name(face)) == face for face in KAOMOJI)


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        ("1girl, long hair,, smile,", ["1girl", "long hair", "smile"]),
        ("1girl long_hair >_<", ["1girl", "long_hair", ">_<"]),
        ("1girl\nlong hair\n\nsmile\n", ["1girl", "long hair", "smile"]),
        ("a girl who smiles", ["a girl who smiles"]),
        ("1girl, a\nb, c", ["1girl", "a", "b", "c"]),
        ("^_^", ["^_^"]),
        ("", []),
    ],
)
def test_lists_of_tags_are_read_however_they_are_separated(text: str, tags: list[str]) -> None:
    assert split_tags(text) == tags


def test_namespaces_are_categories() -> None:
    assert with_category("artist:some_one") == Named("some one", "artist")
    assert with_category("series:fate") == Named("fate", "copyright")
    assert with_category("rating:safe") == Named("rating:safe", "rating")
    assert with_category("re:zero") == Named("re:zero", None)
    assert with_category("artist:") == Named("artist:", None)


def test_junk_is_told_from_tags_that_look_alike() -> None:
    assert all(map(is_junk, ["absurdres", "Highres", "english commentary", "bad pixiv id", "character request"]))
    assert not any(map(is_junk, ["1girl", "signature pose", "free sample", "bad end", "commentator"]))


def test_of_tags_of_one_name_the_first_stays() -> None:
    assert unique([Tag("a", score=0.5), Tag("B"), Tag("A", score=0.9)]) == (Tag("a", score=0.5), Tag("B"))


def test_a_tag_is_read_back_and_a_strange_one_is_named() -> None:
    tag = Tag("hatsune miku", "character", 0.987654321, "wd")
    assert tag_from_json(tag.json()) == replace(tag, score=0.9877)
    for wrong in (["a"], ["a", "colour", None, ""], "a", ["a", "general", "x", ""]):
        with pytest.raises(DatasetError, match="is no tag"):
            tag_from_json(wrong)


def _picture(path: Path, caption: str | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(path)
    if caption is not None:
        path.with_suffix(".txt").write_text(caption, encoding="utf-8")


def test_captions_are_the_truth_and_the_record_knows_the_rest(tmp_path: Path) -> None:
    _picture(tmp_path / "10_main/a.png", "1girl, smile")
    store = DatasetFolder.open(tmp_path)
    (picture,) = store.pictures()
    assert picture.file == "10_main/a.png" and picture.framing_class == "main"
    known = replace(
        picture,
        tags=(Tag("1girl", score=0.9, source="wd"), Tag("hatsune miku", "character", 0.8, "wd")),
        set_aside=(Tag("absurdres", "meta", source="danbooru"),),
        sentence="A girl, who smiles.",
        group="danbooru:1",
        origin={"id": 5},
    )
    assert store.write([known]) == ()
    caption = tmp_path / "10_main/a.txt"
    assert caption.read_text(encoding="utf-8") == "1girl, hatsune miku, A girl, who smiles.\n"
    assert store.pictures() == [known]
    caption.write_text("hatsune miku, absurdres, hat, A girl, who smiles.", encoding="utf-8")
    (edited,) = DatasetFolder.open(tmp_path / "10_main").pictures()
    assert [(tag.name, tag.category, tag.source) for tag in edited.tags] == [
        ("hatsune miku", "character", "wd"),
        ("absurdres", "meta", "danbooru"),
        ("hat", "general", "caption"),
    ]
    assert edited.set_aside == () and edited.sentence == known.sentence
    caption.unlink()
    assert store.pictures()[0].tags == ()


def test_what_is_not_written_stays_in_the_record(tmp_path: Path) -> None:
    for name in "ab":
        _picture(tmp_path / f"{name}.png", name)
    store = DatasetFolder.open(tmp_path)
    first, second = store.pictures()
    store.write([replace(first, group="g")])
    store.write([replace(second, group="h")])
    assert [picture.group for picture in store.pictures()] == ["g", "h"]


def test_two_pictures_that_share_a_caption_are_named(tmp_path: Path) -> None:
    _picture(tmp_path / "a.png", "x")
    _picture(tmp_path / "a.jpg")
    store = DatasetFolder.open(tmp_path)
    jpg, png = store.pictures()
    (note,) = store.write([jpg.with_tags([Tag("y")]), png.with_tags([Tag("z")])])
    assert "a.jpg and a.png share the caption" in note
    assert (tmp_path / "a.txt").read_text() == "x"


def test_a_broken_record_names_its_line(tmp_path: Path) -> None:
    _picture(tmp_path / "a.png", "x")
    store = DatasetFolder.open(tmp_path)
    store.write(store.pictures())
    record = tmp_path / ".dataset/tags.jsonl"
    record.write_text(record.read_text() + '{"tags": []}\n')
    with pytest.raises(DatasetError, match=r"tags\.jsonl, line 2 is no picture"):
        store.pictures()


def test_a_caption_that_cannot_be_read_stops_no_other(tmp_path: Path) -> None:
    _picture(tmp_path / "a.png", "x")
    (tmp_path / "b.txt").write_bytes(b"\xff\xfe\xff")
    _picture(tmp_path / "b.png")
    read = DatasetFolder.open(tmp_path).read()
    assert len(read.pictures) == 2 and "b.txt is not utf-16" in read.unreadable["b.png"]


def test_the_sentence_is_the_end_of_the_caption_only_while_it_is(tmp_path: Path) -> None:
    known = Picture("a.png", (Tag("1girl"),), sentence="A girl.")
    assert captioned(known, "1girl, A girl.") == known
    assert captioned(known, "1girl").sentence == ""
    assert captioned(known, "A girl.").tags == ()


def test_pictures_are_found_at_any_depth_but_not_what_was_taken_out(tmp_path: Path) -> None:
    for name in ("a.png", "site/tag/b.JPG", "unused/c.png", "masks/d.png", ".hidden/e.png"):
        _picture(tmp_path / name)
    for name in ("f.heic", "g.json"):
        (tmp_path / name).touch()
    below = files_below(tmp_path)
    assert [path.name for path in below.pictures] == ["a.png", "b.JPG"]
    assert [path.name for path in (*below.unread, *below.others)] == ["f.heic", "g.json"]
    with pytest.raises(DatasetError, match="there is no folder"):
        files_below(tmp_path / "none")
