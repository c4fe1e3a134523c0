"""The look at a folder: its keys, its warnings with their numbers, and the sheet; the folder stays as it is."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from urllib.parse import urljoin, urlsplit
from urllib.request import url2pathname

import pytest
from click.testing import CliRunner
from PIL import Image

from loratools.cli.app import LazyGroup
from loratools.dataset.look.look import look
from loratools.dataset.look.report import LookReport
from loratools.errors import DatasetError
from loratools.pocket.draw import draw, random_figure

FRAMINGS = ["cowboy_shot"] * 4 + ["face_focus"] * 2 + ["full_body"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("look")
    for number, framing in enumerate(FRAMINGS):
        figure = random_figure(random.Random(number), framing=framing)
        image = draw(figure, number, 128).image
        image.save(root / f"{number}.png")
        extra = ", absurdres, signature" if number == 0 else ""
        (root / f"{number}.txt").write_text(", ".join(figure.tags()) + extra)
        if number == 1:
            image.save(root / "copy.jpg", quality=70)
    clear = Image.new("RGBA", (128, 128))
    clear.paste(Image.new("RGBA", (64, 64), "red"), (32, 32))
    clear.save(root / "clear.png")
    (root / "clear.txt").write_text("heterochromia, transparent background")
    Image.linear_gradient("L").resize((400, 100)).save(root / "long.png")
    (root / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (root / "phone.heic").touch()
    return root


@pytest.fixture(scope="module")
def report(folder: Path) -> LookReport:
    return look(folder, resolution=256)


def test_the_keys_of_the_contract_and_what_they_hold(report: LookReport) -> None:
    value = report.json()
    assert {"pictures", "classes", "duplicates", "variants", "text", "warnings"} <= value.keys()
    assert value["pictures"] == 10
    assert value["classes"] == {"face": 2, "main": 4, "full": 1, "other": 3}
    assert value["duplicates"] == [["1.png", "copy.jpg"]] and value["variants"] == []
    assert value["transparent"] == ["clear.png"] and value["grey"] == ["long.png"]
    assert value["text"]["files"] == {"0.png": []} and value["text"]["by"] == "tags"
    assert value["tags"]["junk"] == {"absurdres": 1, "signature": 1}
    assert list(value["refused"]) == ["broken.png"] and value["unread"] == ["phone.heic"]
    assert json.dumps(value)


@pytest.mark.parametrize(
    "words",
    [
        "1 picture cannot be read",
        "1 picture of a kind that is not read (.heic)",
        "9 different scenes are few",
        "1 picture is a copy of another",
        "1 picture (long.png) is beyond 3:1",
        "smaller than 256x256 would be enlarged up to 2.0 x",
        "1 picture (clear.png) is transparent",
        "1 picture (0.png) is marked with text",
        "2 pictures without tags",
        "2 tags of junk (absurdres, signature)",
        "1 picture of what a mirror makes wrong (heterochromia)",
        "4 main to 2 faces: repeats main",
    ],
)
def test_what_is_to_be_mended_is_said_with_its_numbers(report: LookReport, words: str) -> None:
    assert any(words in warning for warning in report.warnings), report.warnings


def test_the_repeats_that_it_names_fulfil_the_guide(report: LookReport) -> None:
    words = next(warning for warning in report.warnings if "repeats main" in warning).replace(",", " ").split()
    repeats = {name: int(words[words.index(name, words.index("repeats")) + 1]) for name in ("main", "face", "full")}
    assert 3 <= 4 * repeats["main"] / (2 * repeats["face"]) <= 5
    assert repeats["full"] < 2 * repeats["face"]


def test_the_command_writes_a_sheet_and_leaves_the_folder_alone(folder: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    sheet = tmp_path / "new/look.html"
    arguments = ["dataset", "look", str(folder), "--html", str(sheet)]
    result = CliRunner().invoke(LazyGroup("loratools"), arguments)
    assert result.exit_code == 0, result.output
    assert "10 pictures in" in result.stdout and "broken.png cannot be read" in result.stdout
    page = sheet.read_text(encoding="utf-8")
    assert page.count("<figure") == 12 and page.count("data:image/jpeg") == 12  # a group of two besides the classes
    assert "copy.jpg" in page and "absurdres" not in page.split("<h2>")[0].split("<ul")[0].split("<pre>")[0]
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    printed = CliRunner().invoke(LazyGroup("loratools"), ["dataset", "look", str(folder), "--json"])
    assert json.loads(printed.stdout)["pictures"] == 10


def test_boxes_by_hand_say_the_class(folder: Path, tmp_path: Path) -> None:
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps({"long.png": {"head": [[0, 0, 90, 90]], "text": [[0, 0, 9, 9]]}}))
    arguments = ["dataset", "look", str(folder), "--boxes", str(boxes), "--json"]
    value = json.loads(CliRunner().invoke(LazyGroup("loratools"), arguments).stdout)
    assert value["classes"]["face"] == 3


def test_folders_without_pictures_are_no_error_and_missing_ones_are(tmp_path: Path) -> None:
    report = look(tmp_path)
    assert report.json()["pictures"] == 0 and "no picture" in report.text()
    with pytest.raises(DatasetError, match="there is no folder"):
        look(tmp_path / "none")


def test_pictures_that_share_a_caption_are_told(tmp_path: Path) -> None:
    for number, name in enumerate(("a.png", "a.jpg", "b.png")):
        Image.new("RGB", (8, 8), (90 * number, 0, 0)).save(tmp_path / name)
    (tmp_path / "a.txt").write_text("1girl")
    assert any(
        "2 pictures share a caption with another (a.jpg and a.png have a.txt)" in one for one in look(tmp_path).warnings
    )


def test_a_sheet_of_many_pictures_names_them_where_they_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loratools.dataset.look.sheet._MOST_EMBEDDED", 0)
    picture = tmp_path / "set" / "50% #1.png"
    picture.parent.mkdir()
    Image.new("RGB", (64, 64), "teal").save(picture)
    for sheet in (picture.parent / "look.html", tmp_path / "elsewhere" / "look.html"):
        CliRunner().invoke(LazyGroup("loratools"), ["dataset", "look", str(picture.parent), "--html", str(sheet)])
        (address,) = re.findall(r'src="([^"]+)"', sheet.read_text(encoding="utf-8"))
        assert Path(url2pathname(urlsplit(urljoin(sheet.as_uri(), address)).path)) == picture
