"""One recipe from raw pictures to the published file, and again after five more pictures have come."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest
from PIL import Image

from loratools.adapter.files.file import read
from loratools.dataset.edits.edit import CaptionEditor
from loratools.dataset.edits.log import Edit
from loratools.dataset.edits.operations import Add
from loratools.dataset.tags.store import DatasetFolder
from loratools.errors import RecipeError, TrainingError
from loratools.pocket.draw import draw, random_figure
from loratools.recipe.plan.context import RunContext
from loratools.recipe.run.runner import make_planner, run_steps
from loratools.train.config.config import TrainConfig
from loratools.train.trainer import RunResult
from tests.dataset.tagging.graphs import wd_tagger

RECIPE = """\
version: 1
base: tiny
steps:
  clean: {prepare: {images: raw, resolution: 64, crops: false}}
  tagged: {tag: {images: clean, tagger: wd/model.onnx, threshold: 0.9, existing: append, characters: none}}
  edited:
    edit_tags:
      images: tagged
      edits: [{prune: [junk, overlaps]}, {trigger: ink}]
  set: {balance: {images: edited, rule: guide-003, steps: 2, epochs: 1}}
  style: {train: {images: {folder: set, mask_folder: set/masks}, epochs: 1, dim: 2}}
  shared: {publish: {lora: style@1, preview: none}}
"""
FRAMINGS = ("face_focus", "cowboy_shot", "full_body")


def draw_raw(first: int, count: int) -> None:
    """Drawings in a download's folders, with a site's words in their captions."""
    for number in range(first, first + count):
        rng = random.Random(f"raw/{number}")
        figure = random_figure(rng, style="ink", framing=FRAMINGS[number % 3])
        path = Path(f"raw/site/{number:03d}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        draw(figure, rng.randrange(2**32), 64).image.save(path)
        path.with_suffix(".txt").write_text(", ".join(["highres", *figure.tags()]), encoding="utf-8")


def run(text: str = RECIPE) -> dict[str, dict[str, object]]:
    """step -> its facts, of the steps that were made now."""
    Path("r.yaml").write_text(text, encoding="utf-8")
    planner = make_planner("r.yaml", Path("out"))
    results = run_steps(planner.plan(), Path("out"), RunContext(device="cpu"))
    return {each.planned.name: dict(each.record.facts) for each in results if not each.cached}


def captions() -> dict[str, str]:
    return {path.stem: path.read_text("utf-8").strip() for path in Path("out/set").glob("*_*/*.txt")}


@pytest.fixture
def folder(here: Path, tiny_base: Path) -> Path:
    (here / "tiny").symlink_to(tiny_base, target_is_directory=True)
    wd_tagger(here / "wd")
    draw_raw(0, 6)
    shutil.copy2("raw/site/001.png", "raw/site/again.png")
    return here


@pytest.mark.slow
def test_from_raw_pictures_to_the_published_file_and_on_with_five_more(folder: Path) -> None:
    facts = run()
    assert facts["clean"]["pictures"] == 6 and facts["tagged"]["looked_at"] == 6
    assert {path.name for path in Path("out/set").glob("*_*")} == {"1_face", "1_main", "1_full"}
    first = captions()
    assert len(first) == 6 and all(text.startswith("ink, ") and "highres" not in text for text in first.values())
    published = Path("out/shared/shared.safetensors")
    assert read(published).digest == read(Path("out/style/style-000001.safetensors")).digest

    editor = CaptionEditor(DatasetFolder.open("out/edited"))
    editor.apply(edit := Edit(Add(("everywhere",))), editor.plan(edit))
    by_hand = next(Path("out/edited").glob("*_*/*.txt"))
    by_hand.write_text("my own words")
    draw_raw(6, 5)
    before = read(published).digest
    facts = run()
    assert facts["clean"]["pictures"] == 11 and facts["clean"]["done"] == 5 and facts["tagged"]["looked_at"] == 5
    assert facts["tagged"]["copied"] == facts["edited"]["copied"] == 5
    after = captions()
    assert after[by_hand.stem] == "my own words"
    rest = {stem: text for stem, text in after.items() if stem != by_hand.stem}
    assert len(rest) == 10 and all(text.endswith(", everywhere") for text in rest.values())
    assert all(rest[stem] == f"{text}, everywhere" for stem, text in first.items() if stem in rest)
    assert read(published).digest != before
    assert run() == {}


def test_masks_that_an_earlier_step_makes_are_trained_with(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from loratools.train import trainer

    seen: list[tuple[Path | None, bool]] = []

    def look(config: TrainConfig, **more: object) -> RunResult:
        (subset,) = config.images
        seen.append((subset.mask_folder, more["recipe"] is not None))
        raise TrainingError("seen enough")

    monkeypatch.setattr(trainer, "train", look)
    for box, expected in ((None, None), ([2, 2, 20, 10], Path("out/set/masks"))):
        Path("boxes.json").write_text(json.dumps({"site/001.png": {"text": [box]}} if box else {}))
        text = RECIPE.replace("crops: false", "crops: false, boxes: boxes.json")
        with pytest.raises(TrainingError, match="seen enough"):
            run(text)
        assert seen.pop() == (expected, True)
    with Image.open("out/set/masks/001.png") as mask:
        assert mask.convert("L").getextrema() == (0, 255)
    with pytest.raises(RecipeError, match="names no masks; write STEP/masks"):
        run(RECIPE.replace("mask_folder: set/masks", "mask_folder: set"))
