"""Captions under the names that taggers and downloaders give them are read, or said to be there unread."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from loratools.dataset.caption_files import refuse_uncaptioned
from loratools.dataset.folder import FolderOptions
from loratools.dataset.scan import Scan, scan
from loratools.errors import DatasetError


def read(tmp_path: Path, captions: dict[str, str], **options: Any) -> Scan:
    """The scan of ``10_ink`` with the picture 0.png and these files."""
    folder = tmp_path / "10_ink"
    folder.mkdir()
    Image.new("RGB", (64, 64)).save(folder / "0.png")
    for name, text in captions.items():
        (folder / name).write_text(text, encoding="utf-8")
    return scan([FolderOptions(path=folder, **options)], 1)


@pytest.mark.parametrize(
    "name", ["0.txt", "0.TXT", "0.caption", "0.Caption", "0.png.txt", "0.png.TXT", "0.png.caption"]
)
def test_a_caption_by_any_of_its_names_is_read(name: str, tmp_path: Path) -> None:
    scanned = read(tmp_path, {name: "1girl\nsmile\n"})
    assert scanned.items[0].caption == "1girl, smile" and scanned.notes == () and not scanned.uncaptioned


def test_the_first_name_is_read_and_the_others_are_named(tmp_path: Path) -> None:
    texts = {"0.txt": "a", "0.TXT": "b", "0.png.txt": "c", "0.caption": "d", "0.json": "{}"}
    scanned = read(tmp_path, texts)
    assert scanned.items[0].caption == "a"
    assert [note.partition(" in ")[0] for note in scanned.notes] == [
        *("not read: 1 .TXT", "not read: 1 .caption", "not read: 1 .png.txt", "not read: 1 .json"),
    ]


@pytest.mark.parametrize("extension", [".json", ".png.json", ".tags", ".yaml"])
def test_an_unread_caption_is_never_replaced_by_the_folders_word(extension: str, tmp_path: Path) -> None:
    scanned = read(tmp_path, {f"0{extension}": "x"})
    assert scanned.items[0].caption == "" and scanned.folders[0].class_tokens is None
    with pytest.raises(DatasetError, match=rf"1 of them have a {extension}, such as 0{extension}, which is not read"):
        refuse_uncaptioned(scanned.uncaptioned)


@pytest.mark.parametrize(
    ("entry", "caption"),
    [
        ({"tags": "1girl, smile"}, "1girl, smile"),
        ({"caption": "a girl", "tags": ["1girl", " smile"], "image_size": [1, 2]}, "a girl, 1girl, smile"),
        ({"tags": {"1girl": 0.99, " smile": 0.5}}, "1girl, smile"),
    ],
)
@pytest.mark.parametrize("name", ["0.json", "0.png.json"])
def test_json_is_read_where_it_is_asked_for(entry: dict[str, Any], caption: str, name: str, tmp_path: Path) -> None:
    scanned = read(tmp_path, {name: json.dumps(entry)}, extensions=(name[1:],))
    assert scanned.items[0].caption == caption


@pytest.mark.parametrize(("text", "message"), [("1girl", "is not JSON"), ("{}", "neither 'caption' nor 'tags'")])
def test_json_without_a_caption_is_named(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=rf"the caption .*0\.json .*{message}"):
        read(tmp_path, {"0.json": text}, extensions=(".json",))


def test_captions_of_two_pictures_that_differ_in_case_stay_apart(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    for name in ("a", "A"):
        Image.new("RGB", (64, 64)).save(folder / f"{name}.png")
    (folder / "a.txt").write_text("small")
    if (folder / "A.txt").exists():
        pytest.skip("a file system that does not tell case")
    scanned = scan([FolderOptions(path=folder)], 1)
    assert {item.path.stem: item.caption for item in scanned.items} == {"a": "small", "A": ""}
