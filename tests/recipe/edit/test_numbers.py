"""Numbers of a search in a recipe: only their own text changes, presets are copied first, and undo takes all back."""

from __future__ import annotations

from pathlib import Path

import pytest

from loratools.errors import RecipeError
from loratools.recipe.edit.numbers import NewNumbers, set_numbers
from loratools.recipe.edit.undo import undo
from loratools.recipe.schema.recipe import read_recipe

ONES = ", ".join(["1"] * 17)


def write(path: Path, merge: str, blocks: str = "") -> Path:
    path.write_text(f"version: 1\n{blocks}steps:\n  m: {{merge: '{merge}'}}  # mine\n", encoding="utf-8")
    return path


NEW = NewNumbers({"IN04": 0.35, "IN07": -0.4, "OUT08": 0.0, "M00": 1.0}, say="hands: tuned")


@pytest.mark.parametrize(
    ("merge", "blocks"),
    [
        ("a:1:V", f"blocks: {{V: [{ONES}]}}\n"),
        ("a:1:V", f"blocks:\n  V: '{ONES}'\n"),
        (f"a:1:{ONES.replace(' ', '')}", ""),
        ("a:1:GP1, b:-1:GP2", ""),
        ("b:-1:GP2, a:0.8:all", ""),
    ],
)
def test_each_way_to_write_a_vector_is_edited_and_undone(tmp_path: Path, merge: str, blocks: str) -> None:
    recipe = write(tmp_path / "r.yaml", merge, blocks)
    before = recipe.read_text()
    done = set_numbers(recipe, NEW)
    text = recipe.read_text()
    assert done.written and "# mine" in text and text != before
    assert {change.block: float(change.after) for change in done.changes}.items() >= {
        "IN04": 0.35,
        "IN07": -0.4,
        "OUT08": 0.0,
    }.items()
    read_recipe(recipe)
    with_same = set_numbers(recipe, NEW)
    assert not with_same.written and recipe.read_text() == text, "nothing is left to change"
    undo(recipe)
    assert recipe.read_text() == before


def test_a_preset_of_another_file_is_copied_before_it_is_edited(tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    presets = tmp_path / "mine.txt"
    presets.write_text(f"MINE:{ONES.replace(' ', '')}\n", encoding="utf-8")
    recipe.write_text("version: 1\nsteps:\n  m: {merge: {terms: 'a:1:MINE', presets: mine.txt}}\n", encoding="utf-8")
    before = recipe.read_text(), presets.read_text()
    done = set_numbers(recipe, NEW)
    checked, _ = read_recipe(recipe)
    assert done.written and "MINE" in checked.blocks and presets.read_text() == before[1], "the other file stays"
    undo(recipe)
    assert recipe.read_text() == before[0]


def test_the_amount_is_the_second_terms_weight(tmp_path: Path) -> None:
    recipe = write(tmp_path / "r.yaml", "a:1:ALL, b:-1:GP2")
    set_numbers(recipe, NewNumbers({}, 0.35))
    assert "b:-0.35:GP2" in recipe.read_text()
    undo(recipe)
    assert "b:-1:GP2" in recipe.read_text()
    bare = write(tmp_path / "s.yaml", "a:1:ALL, b:-1:GP2")
    assert not set_numbers(bare, NewNumbers({}, 1.0)).changes


@pytest.mark.parametrize(
    ("merge", "new", "message"),
    [
        ("a:1:GP1, b:-1:GP1", NEW, "uses the vector GP1 too"),
        ("a:1", NEW, "has no block vector"),
        ("a:-1:GP1", NEW, "positive weight"),
        ("a:1:GP1", NewNumbers({"IN00": 0.5}), "does not list"),
        ("a:1:IN=0.5", NEW, "give it a name under"),
    ],
)
def test_what_cannot_be_edited_stays(tmp_path: Path, merge: str, new: NewNumbers, message: str) -> None:
    recipe = write(tmp_path / "r.yaml", merge)
    before = recipe.read_text()
    with pytest.raises(RecipeError, match=message):
        set_numbers(recipe, new)
    assert recipe.read_text() == before
    write(tmp_path / "none.yaml", "a:1:ALL")
    set_numbers(tmp_path / "none.yaml", NEW, dry_run=True)
    assert "ALL: [" not in (tmp_path / "none.yaml").read_text()
