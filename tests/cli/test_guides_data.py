"""Guide 004's first chapter and guide 003's data chapters, step by step from the command line, on folders of drawings.

Each step of a guide has its sentence here; what it asks for is looked for in the files that training reads.
"""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from benchmarks.dataset.figures import figure_boxes
from loratools.cli.app import LazyGroup
from loratools.dataset.folder import FolderOptions, folder_repeats
from loratools.dataset.scan import Scan, scan
from loratools.pocket.draw import Figure, draw, random_figure
from tests.dataset.tagging.graphs import wd_tagger

pytestmark = pytest.mark.slow


def _loratools(*arguments: str) -> str:
    result = CliRunner().invoke(LazyGroup("loratools"), [*arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def _dataset(*arguments: str) -> str:
    return _loratools("dataset", *arguments)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _drawn(path: Path, figure: Figure, number: int, size: int = 128) -> Image.Image:
    image = draw(figure, number, size).image
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return image


def _products(found: Scan) -> dict[str, int]:
    """Repeats x pictures of each numbered folder, by its word."""
    names = {folder.path: folder_repeats(folder.path) for folder in found.folders}
    return {
        named.word: named.repeats * sum(item.path.parent == path for item in found.items)
        for path, named in names.items()
        if named is not None
    }


def test_guide_004s_first_chapter(here: Path) -> None:
    root = here / "downloads"
    boxes: dict[str, Any] = {}  # as a detector of heads and people finds them
    framings = ["cowboy_shot"] * 16 + ["face_focus"] * 4 + ["full_body"] * 12
    for number, framing in enumerate(framings):
        figure = random_figure(random.Random(f"004/{number}"), style="ink", framing=framing, accessory="no_accessory")
        _drawn(root / f"{number:02d}.png", figure, number)
        boxes[f"{number:02d}.png"] = figure_boxes(figure, number, 128).json()
    scene = random_figure(
        random.Random("004/scene"), framing="cowboy_shot", expression="smile", accessory="no_accessory"
    )
    for number, expression in enumerate(("smile", "surprised", "frown", "open_mouth")):  # a set of variants
        _drawn(root / f"777777_p{number}.png", replace(scene, expression=expression), 99)
        boxes[f"777777_p{number}.png"] = figure_boxes(scene, 99, 128).json()
    whole = random_figure(random.Random("004/large"), framing="full_body", accessory="no_accessory")
    _drawn(root / "large.png", whole, 5, 640)  # a face may be cropped out of it
    for number in range(2):  # without colour
        Image.open(root / f"{number:02d}.png").convert("L").save(root / f"{number:02d}.png")
    Image.new("RGB", (900, 120), "white").save(root / "banner.png")
    boxes["large.png"] = figure_boxes(whole, 5, 640).json()
    (here / "boxes.json").write_text(json.dumps(boxes))
    before = {path.name: path.read_bytes() for path in root.iterdir()}

    # "tick the tagger, threshold 0.35, 0.5 for ornate drawings": the model's own table, and moved afterwards
    model = str(wd_tagger(here / "wd-swinv2-tagger-v3"))
    # "sort into face close-up, main visual (most), full body, discard; keep a backup, crop again from it"
    made = json.loads(
        _dataset("prepare", "downloads", "-o", "set", "--resolution", "128", "--boxes", "boxes.json", "--json")
    )
    assert {path.name: path.read_bytes() for path in root.iterdir()} == before
    assert made["unused"] == {"banner.png": "900x120 is beyond 3:1"}
    assert made["groups"] == 1 and made["classes"]["main_variants"] == 4
    classes = {path.name: path.parent.name for path in here.glob("set/1_*/*.png")}
    assert {classes[f"{number:02d}.png"] for number in range(16)} == {"1_main"}
    assert {classes[f"{number}.png"] for number in range(16, 20)} == {"1_face"}
    assert {classes[f"{number}.png"] for number in range(20, 32)} == {"1_full"} == {classes["large.png"]}
    assert classes["large_face1.png"] == "1_face" and "1_other" not in classes.values()
    _dataset("tag", "set", "--tagger", model, "--threshold", "0.35", "--existing", "append")
    text = (here / "set/1_face/large_face1.txt").read_text()
    assert text.startswith("portrait") and "1girl" in text
    _dataset("tag", "set", "--threshold", "0.5", "--existing", "append")
    _dataset("edit", "set", "trigger", "ink_style", "--yes")

    # "grey must not outnumber colour", "4 : 1, others below the face, the sum in 1000 to 2000, copies mirrored: x 2"
    looked = json.loads(_dataset("look", "set", "--json"))
    assert {Path(file).name for file in looked["grey"]} == {"00.png", "01.png", "00_face1.png", "01_face1.png"}
    plan = json.loads(_dataset("balance", "set", "-o", "training", "--mirrored", "--json"))["plans"][0]
    found = scan([FolderOptions(path=here / "training")], 0)
    products = _products(found)
    assert 3 <= products["main"] / products["face"] <= 5
    assert all(count < products["face"] for word, count in products.items() if word not in ("main", "face"))
    assert 1000 <= 2 * sum(products.values()) <= 2000
    # "a group of variants as one picture: its repeats are the main class's divided by the group's size"
    assert plan["repeats"]["main_variants"] == max(round(plan["repeats"]["main"] / 4), 1)
    assert all(item.caption.startswith("ink_style, ") for item in found.items)
    # what is written is what training counts
    planned = _loratools("train", "--base", "pocket", "--images", "training", "--epochs", "8", "--dry-run")
    assert str(sum(products.values())) in planned


def test_guide_003s_data_chapters(here: Path) -> None:
    root = here / "grabber"
    tags: dict[int, tuple[str, ...]] = {}
    for number in range(30):  # imgbrd-grabber: %position%.png and %position%.txt with all tags, some of them its site's
        figure = random_figure(random.Random(f"003/{number}"), hair_color="blue_hair", accessory="no_accessory")
        tags[number] = figure.tags()
        image = _drawn(root / f"{number}.png", figure, number)
        words = ["artist:someone", "highres", "absurdres", "commentary_request", "character:miku", *tags[number]]
        if number == 3:  # "a transparent background: white, and in the tags white background, simple background"
            clear = image.convert("RGBA")
            clear.putalpha(Image.fromarray(np.tile(np.linspace(0, 255, 128, dtype=np.uint8), (128, 1))))
            clear.save(root / "3.png")
            words = [word for word in words if "background" not in word] + ["transparent_background"]
        (root / f"{number}.txt").write_text(", ".join(words), encoding="utf-8")
    Image.new("RGB", (600, 150), "white").save(root / "strip.png")  # "crop what is beyond 3:1"
    (here / "boxes.json").write_text(json.dumps({"5.png": {"text": [[2, 110, 60, 126]]}}))  # "signatures leak"

    assert "30 text" in _dataset("import", "grabber")
    report = json.loads(
        _dataset("prepare", "grabber", "-o", "set", "--resolution", "128", "--boxes", "boxes.json", "--json")
    )
    assert list(report["unused"]) == ["strip.png"] and report["masks"] is not None
    white = next(here.glob("set/1_*/3.txt")).read_text()
    assert "white background, simple background" in white and "transparent" not in white
    mask = np.asarray(Image.open(here / "set/masks/5.png"))
    assert mask[118, 30] == 0 and mask[20, 20] == 255
    # "delete junk, drop what binds to the character, the character first"
    _dataset("edit", "set", "prune", "--junk", "--overlaps", "--core", "90%", "--character", "miku", "--yes")
    _dataset("edit", "set", "trigger", "miku_v", "--instead-of", "miku", "--yes")
    # "steps to aim at / 10 epochs / pictures, rounded up; folder N_a"
    _dataset("balance", "set", "-o", "training", "--rule", "guide-003", "--steps", "3000", "--epochs", "10")
    found = scan([FolderOptions(path=here / "training", mask_folder=here / "training/masks")], 0)
    assert len(found.items) == 30 and all(item.caption.startswith("miku_v, ") for item in found.items)
    gone = ("artist", "someone", "highres", "absurdres", "commentary", "blue hair")
    assert not any(word in item.caption for item in found.items for word in gone)
    repeats = math.ceil(3000 / (10 * 30))
    assert sum(_products(found).values()) == repeats * 30
    config = json.dumps({"base": "pocket", "images": [{"folder": "training", "mask_folder": "training/masks"}]})
    (here / "c.yaml").write_text(config)
    assert str(repeats * 30) in _loratools("train", "c.yaml", "--epochs", "10", "--batch-size", "1", "--dry-run")

    # "add pictures later": only these, and every edit stays and is done on them
    for number in (30, 31):
        figure = random_figure(random.Random(f"003/{number}"), hair_color="blue_hair", accessory="no_accessory")
        _drawn(root / f"{number}.png", figure, number)
        (root / f"{number}.txt").write_text(", ".join(["highres", "character:miku", *figure.tags()]))
    _dataset("import", "grabber")
    again = ["prepare", "grabber", "-o", "set", "--resolution", "128", "--boxes", "boxes.json", "--json"]
    assert json.loads(_dataset(*again))["done"] == 2
    _dataset("edit", "set", "replay", "--yes")
    late = next(here.glob("set/1_*/31.txt")).read_text()
    assert late.startswith("miku_v, ") and "blue hair" not in late and "highres" not in late
