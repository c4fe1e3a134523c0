"""The step `prepare`: from raw pictures to a balanced set, and five more pictures cost their own work alone."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from loratools.dataset.folder import FolderOptions
from loratools.dataset.scan import scan
from loratools.errors import DatasetError, RecipeError
from loratools.pocket.draw import draw, random_figure
from loratools.recipe.plan.context import RunContext
from loratools.recipe.run.runner import make_planner, run_steps

RECIPE = """\
version: 1
base: pocket
steps:
  set: {prepare: {images: raw, resolution: 128, boxes: boxes.json}}
  edited: {edit_tags: {images: set, edits: [{prune: [junk]}, {trigger: ink}]}}
  final: {balance: {images: edited}}
"""
FRAMINGS = ["cowboy_shot"] * 6 + ["face_focus"] * 2


def _draw(number: int, framing: str) -> None:
    figure = random_figure(random.Random(number), framing=framing)
    path = Path("raw/sub") / f"{number}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    draw(figure, number, 128).image.save(path)
    path.with_suffix(".txt").write_text(", ".join([*figure.tags(), "absurdres"]), encoding="utf-8")


@pytest.fixture
def folder(here: Path) -> Path:
    for number, framing in enumerate(FRAMINGS):
        _draw(number, framing)
    Path("boxes.json").write_text(json.dumps({"0.png": {"text": [[5, 110, 60, 122]]}}))
    return here


def _run(text: str = RECIPE) -> dict[str, tuple[bool, dict[str, object]]]:
    """step -> (whether it was cached, its facts)."""
    Path("r.yaml").write_text(text, encoding="utf-8")
    planner = make_planner("r.yaml", Path("out"))
    results = run_steps(planner.plan(), Path("out"), RunContext(device="cpu"))
    return {each.planned.name: (each.cached, dict(each.record.facts)) for each in results}


def test_from_raw_pictures_to_a_set_and_then_five_more(folder: Path) -> None:
    facts = _run()["set"][1]
    assert facts["done"] == 8 and facts["classes"] == {"face": 2, "main": 6}
    found = scan([FolderOptions(path=Path("out/final"), mask_folder=Path("out/final/masks"))], 0)
    assert len(found.items) == 8 and all(item.caption.startswith("ink, 1girl") for item in found.items)
    assert {folder.path.name.partition("_")[2] for folder in found.folders} == {"face", "main"}
    assert all(cached for cached, _ in _run().values())
    Path("out/set/1_main/0.txt").write_text("mine, cowboy shot")
    for number in range(8, 13):
        _draw(number, "cowboy_shot")
    more = _run()
    assert more["set"][1]["done"] == 5 and more["set"][1]["classes"] == {"face": 2, "main": 11}
    captions = [path.read_text() for path in Path("out/final").rglob("0.txt")]
    assert captions and captions[0].startswith("ink, mine")


def test_what_a_person_changes_in_the_prepared_folder_is_seen_by_what_follows(folder: Path) -> None:
    _run()
    Path("out/set/1_main/0.txt").write_text("mine, cowboy shot")
    taken_out = Path("out/set/1_main/1.png")
    taken_out.unlink()
    _run()
    captions = {path.stem: path.read_text() for path in Path("out/final").glob("*_main/*.txt")}
    assert captions["0"].startswith("ink, mine") and "1" not in captions
    assert all(cached for cached, _ in _run().values())


def test_what_a_step_names_must_be_there(folder: Path) -> None:
    for wrong, words in (
        ("upscaler: none.onnx", "there is no file 'none.onnx'"),
        ("detectors: [nose=x.onnx]", "'nose=x.onnx' is no detector"),
        ("detectors: face=none.onnx", "there is no file none.onnx"),
        ("images: boxes.json", "is a file"),
    ):
        step = {"images": "raw", "resolution": 128}
        key, _, value = wrong.partition(": ")
        text = json.dumps({**step, key: value}) if key != "detectors" else f"{{images: raw, {wrong}}}"
        with pytest.raises(RecipeError, match=words):
            _run(f"version: 1\nbase: pocket\nsteps:\n  set: {{prepare: {text}}}\n")


def test_a_picture_that_cannot_be_written_stops_the_step(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(source: Path, path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("loratools.dataset.prepare.make._copy", fails)
    with pytest.raises(DatasetError, match="make room"):
        _run()
    monkeypatch.undo()
    assert _run()["set"][1]["pictures"] == 8
