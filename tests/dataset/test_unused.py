"""Whatever lies in a folder of pictures is used, or named once as left out, with counts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from loratools.dataset.folder import FolderOptions, suggested_name
from loratools.dataset.scan import Scan, scan
from loratools.errors import DatasetError


def save(folder: Path, *names: str) -> Path:
    """Pictures of these names, each with a caption; other files where the name is no picture's."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        if name.endswith((".png", ".jfif", ".jpe", ".tga", ".PNG")):
            with (folder / name).open("wb") as file:
                Image.new("RGB", (64, 64), (number, 0, 0)).save(file, "TGA" if name.endswith("tga") else "PNG")
            (folder / name).with_suffix(".txt").write_text("1girl")
        else:
            (folder / name).write_bytes(b"x")
    return folder


def read(*folders: Path, **options: Any) -> Scan:
    return scan([FolderOptions(path=folder, **options) for folder in folders], 1)


def test_nothing_is_said_of_a_folder_that_is_used_whole(tmp_path: Path) -> None:
    root = save(tmp_path / "img", "0.png", "1.jfif", "2.jpe", "3.tga", "4.PNG", ".hidden", "Thumbs.db", "._0.png")
    for name in (".ipynb_checkpoints", "__MACOSX"):
        save(root / name, "0.png")
    scanned = read(root)
    assert len(scanned.items) == 5 and scanned.notes == ()


def test_files_that_are_not_used_are_named_once_with_counts(tmp_path: Path) -> None:
    root = save(
        tmp_path / "10_ink", "0.png", "1.heic", "2.HEIC", "3.jxl", "4.txt", "5.txt", "0.npz", "set.zip", "noend"
    )
    assert read(root, root).notes == (
        f"left out in {root}: 2 .heic and 1 .jxl, pictures of a kind that is not read (save them as PNG or JPEG); "
        "2 .txt named after no picture (4.txt and so on); 1 .npz, 1 .zip and 1 without an ending (0.npz and so on)",
    )


def test_a_list_of_captions_that_is_not_named_is_told(tmp_path: Path) -> None:
    root = save(tmp_path / "10_ink", "0.png")
    (root / "0.txt").unlink()
    (root / "metadata.jsonl").write_text('{"file_name": "0.png", "text": "1girl"}\n')
    scanned = read(root)
    assert scanned.items[0].caption == "ink" and scanned.notes[1:] == (
        f"left out in {root}: 1 .jsonl (metadata.jsonl; if it lists captions, name it as metadata_file)",
    )
    scanned = read(root, metadata_file=root / "metadata.jsonl")
    assert scanned.items[0].caption == "1girl" and scanned.notes == ()


def test_folders_that_are_not_read_are_named_at_any_depth(tmp_path: Path) -> None:
    root = tmp_path / "img"
    (
        save(root / "10_ink", "0.png"),
        save(root / "10_ink/more/much", "0.png", "1.heic"),
        save(root / "set/5_face", "0.png"),
    )
    save(root / "10 back", "0.png")
    (note,) = read(root).notes
    assert note.startswith(
        f"left out: 1 image in {root / '10 back'} (or rename it to 10_back), 2 images in {root}/10_ink/more/much, "
        f"1 image in {root}/set/5_face; of {root} only pictures in itself and folders named like 10_ink"
    )
    notes = read(root, root / "10_ink/more/much", root / "set", root / "10 back").notes
    assert [note.split(",")[0] for note in notes] == [f"left out in {root}/10_ink/more/much: 1 .heic"]
    (note,) = read(root / "10_ink", plain_name=True).notes
    assert "of " + str(root / "10_ink") + " only pictures in itself are read" in note


def test_a_folder_of_unread_kinds_is_named_for_that(tmp_path: Path) -> None:
    root = save(tmp_path / "img", "0.png")
    save(root / "10_ink", "0.heic", "1.heic")
    (note,) = read(root).notes
    assert note.startswith(f"left out: 2 .heic (a kind that is not read) in {root}/10_ink; of {root} only")


def test_many_folders_are_counted_and_links_end(tmp_path: Path) -> None:
    root = save(tmp_path / "img", "0.png")
    for number in range(7):
        save(root / f"part{number}/a", "0.png")
    (root / "part0/a/loop").symlink_to(root, target_is_directory=True)
    (root / "up").symlink_to(root, target_is_directory=True)
    (note,) = read(root).notes
    assert note.count("1 image in") == 5 and "and 2 more folders" in note


def test_masks_and_lists_are_used(tmp_path: Path) -> None:
    root = save(tmp_path / "img", "0.png")
    save(root / "masks", "0.png")
    (root / "m.json").write_text(json.dumps({"0.png": {"tags": "a"}}))
    scanned = read(root, mask_folder=root / "masks", metadata_file=root / "m.json")
    assert [note.split(",")[0] for note in scanned.notes] == [f"not read: 1 .txt in {root} (0.txt)"]


@pytest.mark.parametrize(
    ("name", "suggested"),
    [
        *(("10 ink", "10_ink"), ("ink_10", "10_ink"), ("10-ink", "10_ink"), ("ink x10", "10_ink")),
        *(("10x_ink", "10_ink"), ("010 my ink", "10_my ink"), ("ink", "1_ink"), ("3d", "1_3d"), ("ink2", "1_ink2")),
    ],
)
def test_a_name_that_is_not_read_keeps_its_number_in_the_advice(name: str, suggested: str, tmp_path: Path) -> None:
    assert suggested_name(name) == suggested
    save(tmp_path / name, "0.png")
    repeats = suggested.split("_")[0]
    with pytest.raises(DatasetError, match=rf"its folder {name} has 1, rename it to {suggested} \({repeats} repeats\)"):
        read(tmp_path)


def test_without_pictures_what_is_there_is_named(tmp_path: Path) -> None:
    for folder in (save(tmp_path / "a", "0.heic", "1.heic"), save(tmp_path / "b"), tmp_path / "c", tmp_path / "d"):
        folder.mkdir(exist_ok=True)
    (
        save(tmp_path / "e/10_ink", "0.heic"),
        save(tmp_path / "c/set/5_face", "0.png"),
        save(tmp_path / "d/one/two", "0.png"),
    )
    for name, message in {
        "a": "2 .heic in .*a cannot be read, save them as PNG or JPEG",
        "e": "1 .heic in .*e/10_ink cannot be read, save them as PNG or JPEG",
        "b": "put some there",
        "c": rf"c/set/5_face has 1, name {tmp_path}/c/set as images instead",
        "d": rf"d/one/two has 1, name {tmp_path}/d/one/two as images instead",
    }.items():
        with pytest.raises(DatasetError, match=rf"holds no images.*{message}"):
            read(tmp_path / name)


def test_several_frames_are_told(tmp_path: Path) -> None:
    root = save(tmp_path / "img", "0.png")
    frames = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue")]
    frames[0].save(root / "0.gif", save_all=True, append_images=frames[1:])
    assert read(root).notes == (
        f"animated, or of several pages, and used by the first of them: 1 image in {root} (0.gif)",
    )


@pytest.mark.parametrize("spelled", ["{}/10_ink/", "{}/10_ink/.", "."])
def test_a_link_has_its_repeats_however_it_is_spelled(
    spelled: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = save(tmp_path / "store/9_ink" if spelled == "." else tmp_path / "store/ink", "0.png")
    (tmp_path / "10_ink").symlink_to(stored, target_is_directory=True)
    monkeypatch.chdir(stored)
    path = Path(spelled.format(tmp_path))
    assert [folder.repeats for folder in read(path).folders] == [9 if spelled == "." else 10]
