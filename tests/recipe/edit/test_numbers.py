"""Numbers of a search in a recipe: only their own text changes, presets are copied first, and undo takes all back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loratools.blocks.parse import parse_vector
from loratools.blocks.presets import load_presets
from loratools.blocks.vector import BlockVector
from loratools.errors import LoratoolsError, RecipeError
from loratools.ops.merging.merge_string import parse_merge_string
from loratools.recipe.edit.fix import fix
from loratools.recipe.edit.numbers import NewNumbers, set_numbers
from loratools.recipe.edit.undo import undo
from loratools.recipe.schema.recipe import read_recipe
from loratools.recipe.steps.lora.merge import Merge

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
    same = set_numbers(recipe, NewNumbers({"IN04": 1.0}, say="hands: strength"))
    assert not same.written and same.notes == () and recipe.read_text() == before[0], "nothing is copied for nothing"
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


RULES = {"OUT05/attn1": 0.3, "OUT05/ff": -0.2, "OUT08/attn1": 1.4}


@pytest.mark.parametrize(
    ("merge", "blocks"),
    [
        ("a:1:V", f"blocks: {{V: [{ONES}]}}\n"),
        ("a:1:V", f"blocks:\n  V: [{ONES}]  # of mine\n  W: [{ONES}]\n"),
        ("a:1:V", "blocks:\n  V:\n" + "    - 1\n" * 17 + "base: pocket\n"),
        ("a:1:V", f"blocks:\n  V: '{ONES}'\n"),
        ("a:1:V, b:-1:GP2", f"blocks:\n  V: [{ONES}, OUT11/attn2=0.5,\n      'OUT05/attn1=0.9',   OUT02-OUT03/ff=0]\n"),
        ("a:1:V, b:-1:GP2", "blocks:\n  V: 'GP1,OUT05/attn1=0.9'\n"),
        (f"a:1:{ONES.replace(' ', '')}", ""),
        (f"a:1:{ONES.replace(' ', '')},OUT11/ff=0.5:te=0.5, b:-1:GP2", ""),
        (f"<lora:a:1:lbw={ONES.replace(' ', '')}> b:-1:GP2".replace("> ", ">,"), ""),
        ("a:1:GP1, b:-1:GP2", ""),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_rules_of_kinds_of_layers_are_written_read_and_undone(
    tmp_path: Path, merge: str, blocks: str, end: str
) -> None:
    recipe = write(tmp_path / "r.yaml", merge, blocks)
    recipe.write_bytes(recipe.read_bytes().replace(b"\n", end.encode()))
    before = recipe.read_bytes()
    new = NewNumbers.of_weights({"IN04": 0.35, **RULES}, say="hands: tuned")
    assert not set_numbers(recipe, new, dry_run=True).written and recipe.read_bytes() == before
    done = set_numbers(recipe, new)
    assert vector(recipe).rules and {rule.where: rule.weight for rule in vector(recipe).rules} == RULES
    assert vector(recipe).weights["IN04"] == 0.35 and b"# mine" in recipe.read_bytes()
    assert {change.block for change in done.changes} >= {"IN04", "OUT05/attn1", "OUT08/attn1"}
    assert recipe.read_bytes().count(b"\r\n") == (recipe.read_bytes().count(b"\n") if end == "\r\n" else 0)
    assert not set_numbers(recipe, new).written, "nothing is left to change"
    assert json.loads(json.dumps(done.json()))["changes"][-1]["after"] in RULES.values()
    fewer = NewNumbers.of_weights({"IN04": 0.35, "OUT05/ff": -0.1})
    assert any("no rule" in line for line in set_numbers(recipe, fewer).lines())
    assert {rule.where: rule.weight for rule in vector(recipe).rules} == {"OUT05/ff": -0.1}
    undo(recipe)
    undo(recipe)
    assert recipe.read_bytes() == before


def test_a_symptoms_rule_moves_kinds_of_layers_with_their_block(tmp_path: Path) -> None:
    lines = "IN04/ff=0.45, IN04/attn1=0.05, IN05/ff=-0.3, OUT08/ff=1.2"
    recipe = write(tmp_path / "r.yaml", "a:1:V, b:-1:W", f"blocks:\n  V: [{ONES}, {lines}]\n  W: [{ONES}]\n")
    before = recipe.read_text()
    fix(recipe, ["hands"])
    rules = {rule.where: rule.weight for rule in vector(recipe).rules}
    assert rules == {"IN04/ff": 0.35, "IN04/attn1": 0.0, "IN05/ff": -0.3, "OUT08/ff": 1.2}
    assert vector(recipe).weights["IN04"] == 0.9
    undo(recipe)
    assert recipe.read_text() == before
    moved = vector(recipe).moved({"IN04": -0.1, "IN05": -0.1})
    assert {rule.where: rule.weight for rule in moved.rules} == pytest.approx(rules)


def test_of_a_recipe_that_was_edited_since_only_its_own_rules_go_back(tmp_path: Path) -> None:
    recipe = write(tmp_path / "r.yaml", "a:1:V", f"blocks:\n  V: [{ONES}, OUT11/ff=0.5]\n")
    set_numbers(recipe, NewNumbers({"IN04": 0.35}, rules={"OUT11/ff": 0.7, **RULES}))
    recipe.write_text(recipe.read_text().replace("# mine", "# still mine").replace("OUT05/ff=-0.2", "OUT05/ff=0.1"))
    back = undo(recipe)
    assert {rule.where: rule.weight for rule in vector(recipe).rules} == {"OUT11/ff": 0.5, "OUT05/ff": 0.1}
    assert vector(recipe).weights["IN04"] == 1 and any("OUT05/ff" in note for note in back.notes)


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (f"{ONES}, OUT5/attn1=0.3", "OUT05"),
        (f"{ONES}, attn1", "should hold|pattern|number"),
        (f"OUT05/attn1=0.3, {ONES}", "should hold numbers, and after them only rules"),
        (f"{ONES}, OUT05/attn1=much", "number"),
    ],
)
def test_a_rule_that_cannot_be_read_is_told(tmp_path: Path, items: str, message: str) -> None:
    recipe = write(tmp_path / "r.yaml", "a:1:V", f"blocks: {{V: [{items}]}}\n")
    with pytest.raises(LoratoolsError, match=message):
        vector(recipe)


def vector(recipe: Path) -> BlockVector:
    """The vector of the first term, as a merge would read it."""
    checked, _ = read_recipe(recipe)
    term = parse_merge_string(str(checked.steps["m"].options(Merge).terms))[0]
    return parse_vector(str(term.vector_text), load_presets(checked.blocks), "sd1")
