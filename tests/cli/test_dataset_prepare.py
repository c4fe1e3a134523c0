"""From downloads to a balanced set, in short; the guides' chapters whole are in test_guides_data.py."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from loratools.cli.app import LazyGroup
from loratools.dataset.folder import FolderOptions, folder_repeats
from loratools.dataset.scan import scan
from loratools.pocket.draw import draw, random_figure


def _call(*arguments: str) -> str:
    result = CliRunner().invoke(LazyGroup("loratools"), ["dataset", *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def downloads(here: Path) -> Path:
    """Drawings as a downloader leaves them: gallery-dl's JSON, a copy, a banner, one with a transparent edge, and one
    large whole figure that a face can be cropped out of."""
    root = here / "downloads"
    root.mkdir()
    framings = ["cowboy_shot"] * 8 + ["face_focus"] * 2 + ["full_body"]
    for number, framing in enumerate(framings):
        figure = random_figure(random.Random(number), framing=framing)
        size = 512 if framing == "full_body" else 128
        draw(figure, number, size).image.save(root / f"{number}.png")
        tags = {"tags_general": list(figure.tags()), "tags_meta": ["highres"], "tags_artist": ["someone"]}
        (root / f"{number}.png.json").write_text(json.dumps({"category": "danbooru", "id": number, **tags}))
    Image.open(root / "0.png").resize((96, 96)).save(root / "again.jpg")
    clear = Image.open(root / "1.png").convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(clear.size))
    clear.save(root / "1.png")
    Image.new("RGB", (500, 100)).save(root / "banner.png")
    boxes = {"10.png": {"head": [[180, 60, 330, 210]], "text": [[0, 480, 90, 500]]}}
    (here / "boxes.json").write_text(json.dumps(boxes))
    return root


def test_from_downloads_to_a_balanced_set(downloads: Path, here: Path) -> None:
    seen = json.loads(_call("look", "downloads", "--html", "look.html", "--json"))
    assert seen["pictures"] == 13 and seen["duplicates"] == [["0.png", "again.jpg"]] and Path("look.html").is_file()
    assert "11 gallery-dl danbooru" in _call("import", "downloads")
    assert "1girl" in (downloads / "0.txt").read_text()
    prepare = ["prepare", "downloads", "-o", "pictures", "--resolution", "128", "--boxes", "boxes.json", "--json"]
    made = json.loads(_call(*prepare))
    assert made["classes"] == {"face": 3, "main": 8, "full": 1}
    assert set(made["unused"]) == {"again.jpg", "banner.png"}
    assert "white background, simple background" in (here / "pictures/1_main/1.txt").read_text()
    looked = json.loads(_call("look", "pictures", "--json"))["warnings"]
    best = json.loads(_call("balance", "pictures", "--json"))["plans"][0]
    listed = ", ".join(f"{name} {repeats}" for name, repeats in best["repeats"].items())
    assert any(f"repeats {listed} make it" in warning for warning in looked), (listed, looked)  # both count alike
    _call("edit", "pictures", "trigger", "ink_style", "--yes")
    _call("balance", "pictures", "-o", "training")
    found = scan([FolderOptions(path=here / "training", mask_folder=here / "training/masks")], 0)
    assert all(item.caption.startswith("ink_style, ") for item in found.items)
    assert not any(word in item.caption for item in found.items for word in ("highres", "someone"))
    repeats = {folder.path.name: folder_repeats(folder.path) for folder in found.folders}
    products = {
        named.word: named.repeats * sum(item.path.parent.name == name for item in found.items)
        for name, named in repeats.items()
        if named is not None
    }
    assert 3 <= products["main"] / products["face"] <= 5 and products["full"] < products["face"]
    assert json.loads(_call(*prepare))["done"] == 0
