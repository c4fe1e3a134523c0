from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from loratools.dataset.folder import FolderOptions, folder_repeats, folders_read
from loratools.dataset.scan import held_out_count, scan


def save(folder: Path, count: int = 2) -> Path:
    folder.mkdir(parents=True)
    for number in range(count):
        Image.new("RGB", (64, 64), (number * 40, 0, 0)).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text("1girl")
    return folder


@pytest.mark.parametrize(
    ("name", "repeats"), [("10_ink", (10, "ink")), ("3_", (3, "")), ("ink", None), ("x10_a", None)]
)
def test_a_folders_name_says_its_repeats(tmp_path: Path, name: str, repeats: tuple[int, str] | None) -> None:
    assert folder_repeats(tmp_path / name) == repeats


def test_a_link_is_named_by_itself_and_then_by_what_it_leads_to(tmp_path: Path) -> None:
    stored, numbered = save(tmp_path / "store/ink"), save(tmp_path / "store/7_ink")
    (tmp_path / "img").mkdir()
    (tmp_path / "img/10_ink").symlink_to(stored, target_is_directory=True)
    (tmp_path / "ink").symlink_to(numbered, target_is_directory=True)
    assert [folder.repeats for folder in scan([FolderOptions(path=tmp_path / "img")], 1).folders] == [10]
    assert folder_repeats(tmp_path / "ink") == (7, "ink")


def test_numbered_folders_are_read_with_their_parent(tmp_path: Path) -> None:
    root = save(tmp_path / "img")
    first, second = save(root / "10_a", 1), save(root / "2_b", 3)
    (root / "plain").mkdir()
    assert folders_read(root) == [root, first, second] and folders_read(root, plain_name=True) == [root]
    scanned = scan([FolderOptions(path=root, default_repeats=5)], 1)
    assert [(folder.path, folder.repeats, folder.count) for folder in scanned.folders] == [
        (root, 5, 2),
        (first, 10, 1),
        (second, 2, 3),
    ]
    assert [item.folder for item in scanned.items] == [0, 0, 1, 2, 2, 2]


def test_what_is_held_out_is_marked_and_not_counted(tmp_path: Path) -> None:
    scanned = scan([FolderOptions(path=save(tmp_path / "a", 4), split=0.5)], 1)
    assert sum(item.held_out for item in scanned.items) == 2 and scanned.folders[0].count == 2
    assert [held_out_count(count, share) for count, share in ((0, 0.5), (1, 0.9), (3, 1), (3, 0))] == [0, 0, 3, 0]
