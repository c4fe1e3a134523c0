"""What a recipe may say, and how a mistake is reported: file, line, key, nearest valid word."""

from __future__ import annotations

from pathlib import Path

import pytest

from loratools.errors import RecipeError
from loratools.recipe.run.runner import make_planner
from loratools.recipe.schema.recipe import parse_recipe, read_recipe
from loratools.recipe.shipped import RECIPES

GOOD = """\
version: 1
base: pocket
seed: 3
blocks:
  MINE: [1, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]
steps:
  pictures: {draw: {style: ink}}
  style: {train: {images: pictures, epochs: 2}}
  base_style: {basestyle: }
  final: {merge: "style@2:1:MINE, base_style:-1", out: x.safetensors}
  sheet: {grid: {rows: [style, final], weights: 0:1:0.5, prompts: 1girl, seeds: [1, 2], size: 64}}
"""


def test_a_good_recipe() -> None:
    recipe, _ = parse_recipe(GOOD)
    assert [step.kind for step in recipe.steps.values()] == ["draw", "train", "basestyle", "merge", "grid"]
    grid = recipe.steps["sheet"].grid
    assert grid is not None
    assert (grid.rows, grid.weights, grid.prompts) == (("style", "final"), "0:1:0.5", ("1girl",))
    assert (grid.seeds, grid.size) == ("1,2", "64")
    merge = recipe.steps["final"].merge
    assert merge is not None
    assert (merge.terms, merge.rank, merge.dtype) == ("style@2:1:MINE, base_style:-1", "exact", "fp16")


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("version: 1", "version: 2", 1, "version: it must be 1 (it is 2)"),
        ("seed: 3", "sead: 3", 3, "sead: there is no such key (did you mean 'seed'?)"),
        ("seed: 3", "seed: x", 3, "seed: it must be a whole number (it is 'x')"),
        ("seed: 3", "seed: -1", 3, "seed: it must be 0 or more (it is -1)"),
        ("[1, 0.5,", "[1, half,", 5, "blocks.MINE.1"),
        ("style: ink", "styl: ink", 7, "(did you mean 'style'?)"),
        ("{draw:", "{drow:", 7, "(did you mean 'draw'?); valid: draw, prepare, tag, edit_tags, balance, train"),
        ("{basestyle: }", "{basestyle: , merge: a}", 9, "exactly one of"),
        ("{basestyle: }", "{out: x}", 9, "this one has none"),
        ("{basestyle: }", "{convert: {lora: a, to: difusers}}", 9, "(did you mean 'diffusers'?)"),
        ("{basestyle: }", "{subtract: {style: a, base_style: b, mode: projekt}}", 9, "(did you mean 'project'?)"),
        ("weights: 0:1:0.5", "wieghts: 0:1:0.5", 11, "(did you mean 'weights'?)"),
        ("rows: [style, final], ", "", 11, "'rows' is missing"),
        ("size: 64", "dtype: fp8", 11, "it must be 'fp16', 'bf16' or 'fp32' (it is 'fp8')"),
        ("out: x.safetensors", "out: ../x.safetensors", 10, "inside the work folder"),
        ("  final:", "  fin al:", 10, "the step name 'fin al'"),
        ("base: pocket", "base: pocket\nbase: other", 3, "already given in line 2"),
    ],
)
def test_mistakes_are_located(old: str, new: str, line: int, words: str) -> None:
    assert old in GOOD
    with pytest.raises(RecipeError) as error:
        parse_recipe(GOOD.replace(old, new, 1), "my.yaml")
    assert str(error.value).startswith(f"my.yaml, line {line}"), str(error.value)
    assert words in str(error.value)


@pytest.mark.parametrize("text", ["", "[]", "just text", "steps: {}", "steps: 3", "version: 1"])
def test_what_is_no_recipe(text: str) -> None:
    with pytest.raises(RecipeError, match=r"^my\.yaml"):
        parse_recipe(text, "my.yaml")


def test_several_mistakes_are_counted() -> None:
    with pytest.raises(RecipeError, match=r"line 3.*\(and 2 more after it\)"):
        parse_recipe(GOOD.replace("seed: 3", "sead: 3").replace("styl", "stil", 1), "my.yaml")


def test_every_shipped_recipe_can_be_read_and_is_short() -> None:
    paths = sorted(RECIPES.glob("*.yaml"))
    assert {"style.yaml", "style-quick.yaml"} <= {path.name for path in paths}
    for path in paths:
        read_recipe(path)
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 30


def test_the_caret_stands_under_the_word_inside_a_short_form(here: Path) -> None:
    text = 'base: tiny\nsteps:\n  a: {draw: {style: ink}}\n  final: {merge: "nothing@8:1:GP1, a:-1:GP2"}\n'
    Path("my.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError) as error:
        make_planner("my.yaml").plan()
    line, carets = error.value.excerpt.splitlines()[1:]
    assert line[carets.index("^") : carets.rindex("^") + 1] == "nothing"
