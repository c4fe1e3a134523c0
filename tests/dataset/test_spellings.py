"""Names whose letters with marks are spelled apart (macOS) and together (all else) are one picture's."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from loratools.dataset.caption_files import FilesBeside
from loratools.dataset.caption_metadata import find_listed, read_captions
from loratools.dataset.edits.edit import CaptionEditor
from loratools.dataset.edits.log import Edit
from loratools.dataset.edits.operations import Add
from loratools.dataset.folder import FolderOptions
from loratools.dataset.look.look import look
from loratools.dataset.scan import scan
from loratools.dataset.sidecars.import_folder import import_folder
from loratools.dataset.tags.store import DatasetFolder
from loratools.file_names import composed, spelled_on_disk, spellings

TOGETHER = "\u00e9_\u30ac"  # e with an acute accent, the katakana ga
APART = unicodedata.normalize("NFD", TOGETHER)
WAYS = pytest.mark.parametrize(("one", "other"), [(TOGETHER, APART), (APART, TOGETHER)], ids=["caption-nfd", "nfc"])


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (64, 64), "teal").save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder on a file system that keeps names as they are written; macOS' own calls both spellings one file."""
    root = tmp_path / "set"
    root.mkdir()
    (root / TOGETHER).touch()
    if (root / APART).exists():
        pytest.skip("both spellings are one file here")
    (root / TOGETHER).unlink()
    return root


def test_spellings() -> None:
    assert composed(APART) == TOGETHER and composed("plain") == "plain"
    assert spellings("plain") == ("plain",) and spellings(TOGETHER) == (TOGETHER, APART)
    assert spellings(APART) == (APART, TOGETHER)


@WAYS
def test_captions_and_masks_are_found_however_they_are_spelled(folder: Path, one: str, other: str) -> None:
    picture(folder / f"{one}.png")
    (folder / f"{other}.TXT").write_text("1girl", encoding="utf-8")
    mask = picture(folder.parent / f"masks/{other}.png")
    read = scan([FolderOptions(path=folder, mask_folder=folder.parent / "masks")], 1)
    assert [(item.caption, item.mask) for item in read.items] == [("1girl", mask)]
    assert not [note for note in read.notes if "left out" in note or "not read" in note]
    assert spelled_on_disk(folder / f"{other}.png") == folder / f"{one}.png"
    assert FilesBeside().images_of(folder / f"{other}.TXT", (".txt",)) == [folder / f"{one}.png"]


@WAYS
def test_an_edit_and_its_undo_write_the_file_that_is_there(folder: Path, one: str, other: str) -> None:
    picture(folder / f"{one}.png")
    caption = folder / f"{other}.txt"
    caption.write_bytes(b"1girl,smile\n")
    editor, edit = CaptionEditor(DatasetFolder.open(folder)), Edit(Add(("ink",)))
    editor.apply(edit, editor.plan(edit))
    assert caption.read_bytes() == b"1girl, smile, ink\n"
    assert sorted(path.name for path in folder.glob("*.txt")) == [caption.name]
    assert CaptionEditor(DatasetFolder.open(folder)).undo().restored == 1
    assert caption.read_bytes() == b"1girl,smile\n" and not (folder / f"{one}.txt").exists()


@WAYS
def test_what_a_folder_was_on_another_system_is_known_here(folder: Path, one: str, other: str) -> None:
    """The record has the picture's old spelling, and so has the log."""
    picture(folder / f"{one}.png")
    (folder / f"{one}.json").write_text(json.dumps({"tag_string_general": "1girl", "tag_string_artist": "a", "id": 1}))
    import_folder(folder)
    editor, edit = CaptionEditor(DatasetFolder.open(folder)), Edit(Add(("ink",)))
    editor.apply(edit, editor.plan(edit))
    for path in [*folder.iterdir()]:
        if path.is_file():
            path.rename(path.with_name(path.name.replace(one, other)))
    (known,) = DatasetFolder.open(folder).pictures()
    assert known.file == f"{other}.png" and [tag.name for tag in known.set_aside] == ["a"]
    assert CaptionEditor(DatasetFolder.open(folder)).undo().restored == 1


@WAYS
def test_sidecars_and_lists(folder: Path, one: str, other: str) -> None:
    picture(folder / f"{one}.png")
    (folder / f".{other}_meta.json").write_text('{"tags": {"1girl": 1.0}}')
    assert import_folder(folder, dry_run=True).untagged == 0
    (folder / f".{other}_meta.json").unlink()
    (folder / f"{other}.txt").write_text("1girl")
    report = import_folder(folder, dry_run=True)
    assert report.untagged == 0 and not report.problems
    (folder / f"{other}.txt").unlink()
    (folder / "metadata.jsonl").write_text(
        json.dumps({"file_name": f"{other}.png", "text": "1girl"}) + "\n", encoding="utf-8"
    )
    report = import_folder(folder, dry_run=True)
    assert report.untagged == 0 and not report.problems
    captions = read_captions(folder / "metadata.jsonl")
    assert captions.of(folder / f"{one}.png") == "1girl" and captions.of(folder / "o.png") == ""
    assert find_listed(folder / "metadata.jsonl", ",") == {folder / f"{one}.png": "1girl"}


def test_each_of_two_pictures_keeps_its_own(folder: Path) -> None:
    for name in (TOGETHER, APART):
        picture(folder / f"{name}.png")
        (folder / f"{name}.txt").write_text(f"tag{len(name)}", encoding="utf-8")
    read = scan([FolderOptions(path=folder)], 1)
    assert {item.path.stem: item.caption for item in read.items} == {
        name: f"tag{len(name)}" for name in (TOGETHER, APART)
    }
    assert not [note for note in read.notes if "not read" in note]
    (folder / f"{APART}.txt").unlink()
    beside = FilesBeside()
    assert beside.first(folder / f"{APART}.png", (".txt",)) is None  # the other one is the other picture's
    assert beside.first(folder / f"{TOGETHER}.png", (".txt",)) == folder / f"{TOGETHER}.txt"


def test_look_reports_no_caption_as_lost(folder: Path) -> None:
    picture(folder / f"{TOGETHER}.png")
    (folder / f"{APART}.txt").write_text("1girl", encoding="utf-8")
    assert not [warning for warning in look(folder).json()["warnings"] if "named after no picture" in warning]
