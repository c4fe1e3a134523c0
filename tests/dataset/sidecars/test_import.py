"""Sidecars of every program are read to one model, and what is wrong with one is said without stopping the others."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from PIL import Image

from loratools.cli.app import LazyGroup
from loratools.dataset.sidecars.import_folder import import_folder
from loratools.dataset.sidecars.read import read_folder
from loratools.dataset.tags.picture import Picture
from loratools.dataset.tags.store import DatasetFolder
from loratools.errors import DatasetError, FileError


def _picture(path: Path, size: tuple[int, int] = (12, 8)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, "teal").save(path)
    return path


def _read(folder: Path) -> Picture:
    (picture,) = read_folder(DatasetFolder.open(folder)).pictures
    return picture


def _by_category(picture: Picture) -> dict[str, list[str]]:
    result: dict[str, list[str]] = {}
    for tag in (*picture.tags, *picture.set_aside):
        result.setdefault(tag.category, []).append(tag.name)
    return result


DANBOORU: dict[str, Any] = {
    "category": "danbooru",
    "id": 77,
    "parent_id": 70,
    "has_children": False,
    "rating": "s",
    "tag_string": "1girl absurdres hatsune_miku long_hair someone vocaloid",
    "tag_string_general": "1girl long_hair",
    "tag_string_character": "hatsune_miku",
    "tag_string_copyright": "vocaloid",
    "tag_string_artist": "someone",
    "tag_string_meta": "absurdres",
}
WANTED = {
    "character": ["hatsune miku"],
    "copyright": ["vocaloid"],
    "general": ["1girl", "long hair"],
    "artist": ["someone"],
    "meta": ["absurdres"],
    "rating": ["rating:sensitive"],
}


@pytest.mark.parametrize("name", ["a.json", "a.png.json", "a.JSON"])
def test_gallery_dl_of_danbooru(tmp_path: Path, name: str) -> None:
    _picture(tmp_path / "a.png")
    (tmp_path / name).write_text(json.dumps(DANBOORU))
    picture = _read(tmp_path)
    assert _by_category(picture) == WANTED
    assert picture.group == "danbooru:70" and picture.origin["id"] == 77
    assert picture.caption() == "hatsune miku, vocaloid, 1girl, long hair"


LISTS = {f"tags_{name}": DANBOORU[f"tag_string_{name}"].split() for name in WANTED if name != "rating"}
SITES: dict[str, tuple[dict[str, Any], dict[str, list[str]], str]] = {
    "danbooru lists": ({"category": "danbooru", "rating": "s", **LISTS}, WANTED, ""),
    "gelbooru": (
        {
            "category": "gelbooru",
            "id": 5,
            "rating": "general",
            "tags": "1girl highres long_hair",
            "has_children": "true",
        },
        {"general": ["1girl", "long hair"], "meta": ["highres"], "rating": ["rating:general"]},
        "gelbooru:5",
    ),
    "gelbooru with categories": (
        {"category": "gelbooru", "tags": "1girl someone", "tags_artist": "someone", "tags_general": "1girl"},
        {"general": ["1girl"], "artist": ["someone"]},
        "",
    ),
    "moebooru": (
        {"category": "yandere", "id": 9, "parent_id": 0, "rating": "q", "tags": "dress landscape", "md5": "x"},
        {"general": ["dress", "landscape"], "rating": ["rating:questionable"]},
        "",
    ),
    "e621": (
        {
            "category": "e621",
            "id": 3,
            "rating": "e",
            "tags": {
                "general": ["fur", "solo"],
                "species": ["fox"],
                "artist": ["someone"],
                "lore": [],
                "meta": ["hi_res"],
            },
            "relationships": {"parent_id": None, "has_children": True},
        },
        {
            "general": ["fur", "solo"],
            "species": ["fox"],
            "artist": ["someone"],
            "meta": ["hi res"],
            "rating": ["rating:explicit"],
        },
        "e621:3",
    ),
    "pixiv": (
        {"category": "pixiv", "id": 123, "page_count": 3, "num": 1, "tags": ["初音ミク", "R-18"], "rating": ""},
        {"general": ["初音ミク"], "rating": ["rating:r-18"]},
        "pixiv:123",
    ),
    "pixiv translated": (
        {"category": "pixiv", "id": 1, "tags": [{"name": "髪", "translated_name": "hair"}, {"name": "花"}]},
        {"general": ["hair", "花"]},
        "",
    ),
}


@pytest.mark.parametrize("name", SITES)
def test_other_sites(tmp_path: Path, name: str) -> None:
    data, wanted, group = SITES[name]
    _picture(tmp_path / "a.png")
    (tmp_path / "a.png.json").write_text(json.dumps(data), encoding="utf-8")
    picture = _read(tmp_path)
    assert _by_category(picture) == wanted
    assert picture.group == group


def test_waifuc_keeps_scores_in_a_hidden_file(tmp_path: Path) -> None:
    _picture(tmp_path / "a.png")
    (tmp_path / ".a_meta.json").write_text(json.dumps({"tags": {"smile": 0.4, "long_hair": 0.93}, "url": "u"}))
    picture = _read(tmp_path)
    assert [(tag.name, tag.score, tag.source) for tag in picture.tags] == [
        ("long hair", 0.93, "waifuc"),
        ("smile", 0.4, "waifuc"),
    ]


TEXTS = {
    "commas": "1girl, long_hair, absurdres",
    "grabber's spaces": "1girl long_hair absurdres",
    "a line each": "1girl\nlong_hair\nabsurdres\n",
    "namespaces": "general:1girl general:long_hair meta:absurdres",
    "spelled": "1girl,long hair,absurdres,",
}


@pytest.mark.parametrize("extension", [".txt", ".png.txt", ".caption", ".TXT"])
@pytest.mark.parametrize("name", TEXTS)
def test_text_however_it_is_listed(tmp_path: Path, name: str, extension: str) -> None:
    _picture(tmp_path / "a.png")
    (tmp_path / f"a{extension}").write_text(TEXTS[name])
    assert _by_category(_read(tmp_path)) == {"general": ["1girl", "long hair"], "meta": ["absurdres"]}


def test_backslashes_of_prompts_go_and_are_counted(tmp_path: Path) -> None:
    _picture(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text(r"saber \(fate\), 1girl, ||_||")
    report = import_folder(tmp_path)
    assert report.unescaped == 1
    assert (tmp_path / "a.txt").read_text() == "saber (fate), 1girl, ||_||\n"
    assert (tmp_path / ".dataset/before_import/a.txt").read_text() == r"saber \(fate\), 1girl, ||_||"


def test_language_after_tags_is_a_sentence(tmp_path: Path) -> None:
    _picture(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("1girl, smile, A girl smiles at us, and the sun is low.")
    picture = _read(tmp_path)
    assert [tag.name for tag in picture.tags] == ["1girl", "smile"]
    assert picture.sentence == "A girl smiles at us, and the sun is low."


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("metadata.jsonl", '{"file_name": "sub/a.png", "text": "1girl, smile"}\n'),
        ("meta_lat.json", '{"/elsewhere/a.png": {"caption": "1girl", "tags": "smile", "train_resolution": [1, 2]}}'),
        ("tags.json", '{"a": {"tags": "1girl, smile"}}'),
        ("captions.json", '{"a.png": "1girl, smile"}'),
        ("list.json", '[{"image": "a.png", "caption": "1girl, smile"}]'),
    ],
)
def test_lists_of_many_pictures(tmp_path: Path, name: str, text: str) -> None:
    _picture(tmp_path / "sub/a.png")
    (tmp_path / name).write_text(text)
    assert [tag.name for tag in _read(tmp_path).tags] == ["1girl", "smile"]


def test_a_sidecar_of_another_picture_is_left_out_but_one_of_a_sample_is_not(tmp_path: Path) -> None:
    own = _picture(tmp_path / "own.png")
    _picture(tmp_path / "sample.png")
    _picture(tmp_path / "other.png", (8, 12))
    digest = hashlib.md5(own.read_bytes()).hexdigest()
    for name in ("own", "sample", "other"):
        value = {**DANBOORU, "md5": digest if name == "own" else "0" * 32, "image_width": 120, "image_height": 80}
        (tmp_path / f"{name}.json").write_text(json.dumps(value))
    report = import_folder(tmp_path)
    assert report.untagged == 1 and len(report.problems) == 1
    assert "other.json is of another picture (120x80" in report.problems[0]


def test_what_cannot_be_read_is_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    for name in ("a", "b", "c", "🦊" * 20, "x" * 240):
        _picture(tmp_path / f"{name}.png")
    (tmp_path / "a.json").write_text('{"tags": ')
    (tmp_path / "b.txt").write_bytes("été".encode("latin-1"))
    (tmp_path / "c.json").write_text('{"weather": 3}')
    (tmp_path / f"{'🦊' * 20}.txt").write_text("fox", encoding="utf-16")
    (tmp_path / f"{'x' * 240}.txt").write_text("long name")
    report = import_folder(tmp_path)
    assert report.pictures == 5 and report.untagged == 3
    wanted = ("a.json is not JSON", "b.txt is not UTF-8", "c.json says nothing of a picture")
    assert all(any(want in problem for problem in report.problems) for want in wanted)
    assert len(report.problems) == 3 + 2 and "read as utf-16 " in report.problems[3]
    assert "left as it is" in report.problems[4]
    assert (tmp_path / "b.txt").read_bytes() == "été".encode("latin-1")
    assert (tmp_path / f"{'🦊' * 20}.txt").read_text(encoding="utf-8") == "fox\n"


def test_an_import_again_reads_only_what_is_new(tmp_path: Path) -> None:
    _picture(tmp_path / "a.png")
    (tmp_path / "a.png.json").write_text(json.dumps(DANBOORU))
    import_folder(tmp_path)
    (tmp_path / "a.txt").write_text("edited by hand")
    _picture(tmp_path / "b.png")
    (tmp_path / "b.txt").write_text("new_one another_one")
    report = import_folder(tmp_path)
    assert report.kept == 1
    assert (tmp_path / "a.txt").read_text() == "edited by hand"
    assert (tmp_path / "b.txt").read_text() == "new one, another one\n"
    import_folder(tmp_path, again=True)
    assert (tmp_path / "a.txt").read_text().startswith("hatsune miku, vocaloid")
    (tmp_path / "a.txt").write_text("edited once more")
    for _ in range(2):  # the second one writes over nothing that is not kept
        import_folder(tmp_path, again=True)
    kept = {path.parent.name: path.read_text() for path in (tmp_path / ".dataset").rglob("a.txt")}
    assert kept["before_import"] == "edited by hand" and kept["before_import-2"] == "edited once more"
    assert len(kept) == 3  # and what the first of the two made


def test_captions_named_after_no_picture_are_told(tmp_path: Path) -> None:
    _picture(tmp_path / "1_main" / "a.png")
    for name in ("A.txt", "a.png.caption", "b.txt", "c.caption", "readme.md"):
        (tmp_path / "1_main" / name).write_text("1girl")
    (problem,) = import_folder(tmp_path).problems
    assert problem.startswith("b.txt, c.caption in ") and problem.endswith(
        "are named after no picture there, and not read"
    )


def test_categories_stay_if_asked_and_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    _picture(tmp_path / "a.png")
    (tmp_path / "a.png.json").write_text(json.dumps(DANBOORU))
    import_folder(tmp_path, dry_run=True)
    assert not (tmp_path / "a.txt").exists() and not (tmp_path / ".dataset").exists()
    import_folder(tmp_path, ("artist",))
    assert "someone" in (tmp_path / "a.txt").read_text()


def test_pages_of_one_pixiv_work_are_variants_by_their_names(tmp_path: Path) -> None:
    for name in ("12345678_p0.png", "12345678_p1.png", "2024_p1.png"):
        _picture(tmp_path / name)
    pictures = read_folder(DatasetFolder.open(tmp_path)).pictures
    assert [picture.group for picture in pictures] == ["pixiv:12345678", "pixiv:12345678", ""]


def test_a_full_disk_leaves_whole_captions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "ab":
        _picture(tmp_path / f"{name}.png")
        (tmp_path / f"{name}.txt").write_text("one_tag two_tags")

    def fails(files: Sequence[tuple[Path, str]]) -> None:
        files[0][0].write_text(files[0][1])
        raise OSError(28, "No space left on device", str(files[1][0]))

    monkeypatch.setattr("loratools.dataset.tags.store.write_texts", fails)
    with pytest.raises((OSError, FileError)):
        import_folder(tmp_path)
    monkeypatch.undo()
    assert (tmp_path / "b.txt").read_text() == "one_tag two_tags"
    import_folder(tmp_path)
    assert {(tmp_path / f"{name}.txt").read_text() for name in "ab"} == {"one tag, two tags\n"}


def test_the_command_says_what_it_read(tmp_path: Path) -> None:
    _picture(tmp_path / "a.png")
    (tmp_path / "a.png.json").write_text(json.dumps(DANBOORU))
    result = CliRunner().invoke(LazyGroup("loratools"), ["dataset", "import", str(tmp_path), "--json"])
    assert result.exit_code == 0, result.output
    value = json.loads(result.stdout)
    assert value["formats"] == {"gallery-dl danbooru": 1} and value["set_aside"]["meta"] == 1
    with pytest.raises(DatasetError, match="there is no folder"):
        import_folder(tmp_path / "none")
