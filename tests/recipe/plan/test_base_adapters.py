"""Training on top of earlier steps: what waits for what, what makes it stale, and which settings the run gets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from loratools.adapter.header import read_header
from loratools.errors import RecipeError
from loratools.recipe.plan.context import RunContext
from loratools.recipe.plan.step import Planned
from loratools.recipe.run.runner import make_planner, run_steps
from tests.recipe.conftest import save_lora

RECIPE = """\
version: 1
base: tiny
blocks:
  MINE: [0.7, 0.6, 0.9, 0.9, 0.9, 0.6, 0.5, 0.4, 0.4, 0.6, 0.8, 1.0, 1.1, 1.1, 1.1, 1.1, 1.1]
steps:
  pictures: {draw: {style: ink, count: 2, size: 64}}
  base_style: {basestyle: {images_per_framing: 1, epochs: 2, dim: 2}}
  style: {train: {images: pictures, epochs: 1, dim: 2, base_adapters: ["base_style@last:0.5:MINE", "file:1"],
                  network_weights: file.safetensors}}
"""


@pytest.fixture
def folder(here: Path, tiny_base: Path) -> Path:
    (here / "tiny").symlink_to(tiny_base, target_is_directory=True)
    save_lora(here / "file.safetensors", 1)
    return here


def plan(folder: Path, text: str = RECIPE) -> dict[str, Planned]:
    (folder / "r.yaml").write_text(text.replace('"file:1"', '"file.safetensors:1"'), encoding="utf-8")
    return {step.name: step for step in make_planner(folder / "r.yaml", folder / "work").plan()}


def test_it_waits_for_the_steps_that_it_builds_on(folder: Path) -> None:
    assert set(plan(folder)["style"].needs) == {"pictures", "base_style"}


@pytest.mark.parametrize(
    ("old", "new", "stale"),
    [
        ("epochs: 2", "epochs: 3", True),
        ("0.5:MINE", "0.6:MINE", True),
        ("[0.7", "[0.8", True),
        ("MINE", "mine", False),
        ('"file:1"', '"file:2"', True),
        ("@last", "@1", True),
    ],
)
def test_what_changes_it_makes_it_stale(folder: Path, old: str, new: str, stale: bool) -> None:
    changed = RECIPE.replace(old, new) if old == "MINE" else RECIPE.replace(old, new, 1)
    assert (plan(folder)["style"].key != plan(folder, changed)["style"].key) is stale


def test_files_count_by_content_and_not_by_name(folder: Path) -> None:
    before = plan(folder)["style"].key
    (folder / "file.safetensors").rename(folder / "other.safetensors")
    assert plan(folder, RECIPE.replace("file", "other"))["style"].key == before
    save_lora(folder / "other.safetensors", 2)
    assert plan(folder, RECIPE.replace("file", "other"))["style"].key != before


def test_the_run_is_told_places_and_numbers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from loratools.train import trainer

    configs: list[Any] = []

    def stop(config: Any, **_: Any) -> None:
        configs.append(config)
        raise KeyboardInterrupt

    monkeypatch.setattr(trainer, "train", stop)
    style = plan(folder)["style"]
    with pytest.raises(KeyboardInterrupt):
        style.draft.make(style.out, RunContext(device="cpu"))
    (config,) = configs
    first, second = config.base_adapters
    assert (
        first.startswith(f"{plan(folder)['base_style'].out}@last:0.5:")
        and "MINE" not in first
        and ":0.7,0.6,0.9," in first
    )
    assert second == f"{folder / 'file.safetensors'}:1.0" and config.network_weights == folder / "file.safetensors"


def test_what_is_nothing_is_told_with_its_line(folder: Path) -> None:
    with pytest.raises(RecipeError, match=r"line 8.*'bace_style' is no step.*'base_style'"):
        plan(folder, RECIPE.replace("base_style@last", "bace_style@last"))


def test_a_base_style_stands_on_steps_too(folder: Path) -> None:
    text = (
        "version: 1\nbase: tiny\nsteps:\n"
        "  half: {merge: 'file:0.5'}\n"
        "  base_style: {basestyle: {images_per_framing: 1, epochs: 1, dim: 2, steps: 1, size: 64, "
        "base_adapters: 'half:1', network_weights: file.safetensors}}\n"
    )
    step = plan(folder, text)["base_style"]
    assert step.needs == ("half",)
    assert step.key != plan(folder, text.replace("file:0.5", "file:0.4"))["base_style"].key
    (folder / "r.yaml").write_text(text, encoding="utf-8")
    work = folder / "work"
    run_steps(make_planner(folder / "r.yaml", work).plan(), work, RunContext(device="cpu"))
    settings = json.loads(read_header(work / "base_style/base_style-000001.safetensors").metadata["loratools"])
    assert str(work / "half.safetensors") in json.dumps(settings)
