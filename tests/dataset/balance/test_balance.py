"""A folder's classes, its plans, and what is written of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from loratools.cli.app import LazyGroup
from loratools.dataset.balance.classes import read_classes
from loratools.dataset.balance.plan import BalanceRequest, balance
from loratools.dataset.balance.write import rename_folders, write_folders
from loratools.dataset.tags.picture import Picture
from loratools.dataset.tags.store import DatasetFolder
from loratools.dataset.tags.tag import Tag
from loratools.errors import DatasetError, FileError, OptionError
from loratools.train.config.read import read_config

COUNTS = {"1_face": 10, "1_main": 20, "1_full": 8}


def fill(root: Path, counts: dict[str, int] = COUNTS, colour: tuple[int, int, int] = (200, 40, 40)) -> Path:
    for name, count in counts.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            Image.new("RGB", (4, 4), colour).save(root / name / f"{number}.png")
            (root / name / f"{number}.txt").write_text("1girl, hat\n")
    return root


def run(*words: object) -> Result:
    return CliRunner().invoke(LazyGroup(name="loratools"), ["dataset", "balance", *map(str, words)])


def folders(root: Path) -> dict[str, int]:
    return {
        path.name: len(list(path.glob("*.png")))
        for path in sorted(root.iterdir())
        if path.is_dir() and path.name[0] != "."
    }


def test_the_plans_are_shown_and_nothing_is_written(tmp_path: Path) -> None:
    result = run(fill(tmp_path))
    assert result.exit_code == 0 and folders(tmp_path) == COUNTS
    assert (
        "plan 1: main x 10, face x 5, full x 1 (main to faces 4.0 to 1, 258 an epoch, guide 004's sum 1032)"
        in result.output
    )
    assert "plan 3:" in result.output and "nothing was written" in result.output


def test_folders_are_written_elsewhere_and_again(tmp_path: Path) -> None:
    source, out = fill(tmp_path / "set"), tmp_path / "training"
    assert run(source, "-o", out).exit_code == 0
    assert folders(out) == {"10_main": 20, "1_full": 8, "5_face": 10} and folders(source) == COUNTS
    assert (out / "10_main/0.txt").read_text() == "1girl, hat\n"
    fill(source, {"1_full": 30})
    assert run(source, "-o", out, "--json").exit_code == 0
    assert folders(out)["1_full"] == 30
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/a.txt").touch()
    assert "was not written by this" in run(source, "-o", tmp_path / "mine").output
    for place in (source / "x", source, source.parent):  # the last one would have been deleted, with all that is in it
        assert "lie in one another" in run(source, "-o", place, "--force").output
    (out / "10_main/0.txt").write_text("by hand")
    assert "0.txt changed since" in run(source, "-o", out).output
    assert (out / "10_main/0.txt").read_text() == "by hand"
    assert run(source, "-o", out, "--force").exit_code == 0


def test_folders_are_renamed_where_they_are_and_their_record_follows(tmp_path: Path) -> None:
    fill(tmp_path, {"10_main": 20, "5_face": 10, "3_full": 8})
    (tmp_path / "5_face").rename(tmp_path / "1_face")
    store = DatasetFolder.open(tmp_path)
    store.write(picture.with_tags([Tag("hat", "general", 0.5, "wd")]) for picture in store.pictures())
    assert "nothing was written" in run(tmp_path, "--rename").output  # nobody said yes
    result = run(tmp_path, "--rename", "--yes")
    assert "1_face -> 5_face" in result.output and "3_full -> 1_full" in result.output
    assert set(folders(tmp_path)) == {"10_main", "5_face", "1_full"}
    assert {picture.tags for picture in DatasetFolder.open(tmp_path).pictures()} == {
        (Tag("hat", "general", 0.5, "wd"),)
    }
    assert "every folder has its name already" in run(tmp_path, "--rename", "--yes").output


def test_a_name_that_is_taken_stops_all(tmp_path: Path) -> None:
    fill(tmp_path, {"2_main": 61})
    (tmp_path / "9_main").mkdir()
    assert "cannot become 9_main, which is there already" in run(tmp_path, "--rename", "--yes", "--mirrored").output
    assert folders(tmp_path) == {"2_main": 61, "9_main": 0}
    (tmp_path / "9_main").rmdir()
    assert run(tmp_path, "--rename", "--yes", "--mirrored").exit_code == 0 and folders(tmp_path) == {"9_main": 61}


def test_a_folder_that_cannot_be_renamed_leaves_all_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans, rename = balance(DatasetFolder.open(fill(tmp_path))), Path.rename

    def fails(path: Path, target: Path) -> Path:
        if path.name == "1_face":
            raise PermissionError(13, "Permission denied")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fails)
    with pytest.raises(FileError, match="1_face cannot be renamed"):
        rename_folders(plans)
    assert folders(tmp_path) == COUNTS and not list(tmp_path.glob(".*.renamed"))


def test_a_training_config(tmp_path: Path) -> None:
    source, out = fill(tmp_path / "set"), tmp_path / "ink.yaml"
    assert run(source, "-o", out, "--mirrored").exit_code == 0
    config, *_ = read_config(out, {"base": "pocket", "out": str(tmp_path / "run"), "name": "ink"})
    assert {subset.folder.name: subset.repeats for subset in config.images} == {"1_main": 20, "1_face": 10, "1_full": 1}
    assert config.flip
    for added in ("mine: 1\n", f"{out.read_text()}epochs: 3\n"):
        out.write_text(added)
        assert "holds more than this writes" in run(source, "-o", out).output and out.read_text() == added


def test_guide_003_aims_at_steps(tmp_path: Path) -> None:
    fill(tmp_path, {"1_a": 61})
    value = json.loads(run(tmp_path, "--rule", "guide-003", "--steps", "3000", "--json").output)
    assert [plan["repeats"]["a"] for plan in value["plans"]] == [5, 4, 6] and value["plans"][0]["sum"] == 3050
    assert not value["plans"][0]["broken"] and value["written"] == []


def test_variants_are_filled_up_and_shown_at_a_quarter(tmp_path: Path) -> None:
    source = fill(tmp_path / "set", {"1_main": 24, "1_face": 12, "1_main_variants": 7})
    store = DatasetFolder.open(source)
    groups = ["a", "a", "a", "a", "b", "b", "b"]
    pictures = iter(groups)
    store.write(Picture(p.file, p.tags, group=next(pictures)) if "variants" in p.file else p for p in store.pictures())
    found = balance(store)
    variants = found.classes[2]
    assert (variants.kind, variants.group_size, variants.uneven) == ("variants", 4, True)
    assert found.repeats()["main_variants"] == max(round(found.repeats()["main"] / 4), 1)
    out = write_folders(store, found, tmp_path / "out")
    (folder,) = out.glob("*_main_variants")
    assert len(list(folder.glob("*.png"))) == 8 and len(list(folder.glob("*_copy1.png"))) == 1
    assert len(list(folder.glob("*.txt"))) == 8
    again = {
        picture.file.rpartition("/")[2]: picture.group
        for picture in DatasetFolder.open(out).pictures()
        if picture.group
    }
    assert sorted(again.values()) == ["a"] * 4 + ["b"] * 4
    assert "fills them up" in balance(store, BalanceRequest(filled=False)).warnings[0]


def test_masks_go_with_their_pictures(tmp_path: Path) -> None:
    source = fill(tmp_path / "set", {"1_main": 2})
    fill(source, {"1_face": 1})
    (source / "masks").mkdir()
    Image.new("L", (4, 4)).save(source / "masks/0.png")
    store = DatasetFolder.open(source)
    out = write_folders(store, balance(store), tmp_path / "out")
    names = {path.name for path in out.glob("*_*/*.png")}
    assert names == {"0.png", "1.png", "0_2.png"}  # a mask goes by its picture's name, which is one of its own
    assert {path.name for path in (out / "masks").iterdir()} == {"0.png", "0_2.png"}
    from loratools.dataset.balance.write import config_text

    assert 'mask_folder: "set/masks"' in config_text(store, balance(store), tmp_path / "ink.yaml")


def test_grey_and_kinds(tmp_path: Path) -> None:
    fill(tmp_path, {"1_portraits": 9, "1_scenes": 20})
    fill(tmp_path, {"1_scenes": 6}, (90, 90, 90))
    store = DatasetFolder.open(tmp_path)
    assert [(each.word, each.kind, each.grey) for each in read_classes(store)] == [
        ("scenes", "main", 6),
        ("portraits", "other", 0),
    ]
    assert [each.kind for each in read_classes(store, {"portraits": "face"})] == ["main", "face"]
    with pytest.raises(OptionError, match="did you mean 'portraits'"):
        read_classes(store, {"portrait": "face"})
    assert "kinds are main, face" in run(tmp_path, "--kind", "portraits=heads").output
    assert "portraits: 9 pictures (face)" in run(tmp_path, "--kind", "portraits=face").output


def test_mirroring_is_wrong_for_what_has_a_side(tmp_path: Path) -> None:
    fill(tmp_path, {"1_main": 30})
    (tmp_path / "1_main/0.txt").write_text("1girl, eyepatch, heterochromia")
    store = DatasetFolder.open(tmp_path)
    assert "eyepatch (1), heterochromia (1)" in balance(store, BalanceRequest(mirrored=True)).warnings[0]
    assert balance(store).warnings == ()


def test_a_folder_without_classes_is_one(tmp_path: Path) -> None:
    fill(tmp_path, {"ink": 61})
    (only,) = balance(DatasetFolder.open(tmp_path / "ink")).classes
    assert (only.word, only.kind) == ("ink", "main")


def test_mistakes(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="holds no pictures"):
        balance(DatasetFolder.open(tmp_path / "empty"))
    fill(tmp_path / "set", {"1_main": 2})
    store = DatasetFolder.open(tmp_path / "set")
    with pytest.raises(OptionError, match="above 0"):
        balance(store, BalanceRequest(factor=0))
    with pytest.raises(OptionError, match="a whole number from 1"):
        balance(store, BalanceRequest(rule="guide-003", steps=0))


def test_the_rest_as_often_as_the_faces_allow(tmp_path: Path) -> None:
    result = run(fill(tmp_path), "--others", "even")
    assert "plan 1: main x 10, face x 5, full x 6" in result.output  # 48 of the 50 that stay below the faces


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, out = fill(tmp_path / "set", {"1_main": 3}), tmp_path / "out"
    store = DatasetFolder.open(source)
    write_folders(store, balance(store), out)
    before = folders(out)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copy2", full)
    with pytest.raises(FileError, match=r"No space left on device.*nothing was changed"):
        write_folders(store, balance(store), out)
    assert folders(out) == before
