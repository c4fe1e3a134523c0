"""Symptom fixes: only the numbers' own text changes, every fix can be undone exactly, and hand edits survive."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest

from loratools.blocks.parse import find_preset
from loratools.blocks.presets import load_presets
from loratools.blocks.symptoms import find_symptom, symptoms
from loratools.errors import BlockError, FileError, RecipeError
from loratools.ops.merging.merge_string import parse_merge_string
from loratools.recipe.edit.fix import fix, sized
from loratools.recipe.edit.log import Edit, RecipeFile, load_log, sidecar
from loratools.recipe.edit.undo import undo
from loratools.recipe.schema.recipe import read_recipe

RECIPE = """\
# my style, do not lose this line
version: 1
blocks:            # BASE IN01 ...
  GP1: [1.0, 0.6, 0.9,   0.9, 0.9, 0.6, 0.5,    # down
        0.4, 0.4, 0.6, 0.8, 1.0, 1.1, 1.1, 1.1, 1.1, 1.1]   # up
  'gp2': [0.30, 0.1, 0.1, .1, 1e-1, +0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.2, 0.2, 0.2, 0.2, 0.2]
steps:
  final:  {merge: "a:1:GP1,  b:-1:GP2" , out: mine.safetensors}   # the sum
"""
HANDS = """\
# my style, do not lose this line
version: 1
blocks:            # BASE IN01 ...
  GP1: [1.0, 0.6, 0.9,   0.8, 0.8, 0.5, 0.4,    # down
        0.4, 0.4, 0.6, 0.8, 1.0, 1.1, 1.1, 1.1, 1.1, 1.1]   # up
  'gp2': [0.30, 0.1, 0.1, 0.0, 0.0, 0.0, 0.0, 0.1, 0.1, 0.1, 0.1, 0.1, 0.2, 0.2, 0.2, 0.2, 0.2]
steps:
  final:  {merge: "a:1:GP1,  b:-1:GP2" , out: mine.safetensors}   # the sum
"""
TWICE = HANDS.replace("0.8, 0.8, 0.5, 0.4,    # down", "0.7, 0.7, 0.4, 0.3,    # down")


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "style.yaml"
    path.write_text(RECIPE, encoding="utf-8")
    return path


def write(path: Path, merge: str, blocks: str = "") -> Path:
    path.write_text(f"version: 1\n{blocks}steps:\n  m: {{merge: {merge}}}\n", encoding="utf-8")
    return path


def history(recipe: Path) -> list[Edit]:
    """The fixes that are in effect, oldest first."""
    return load_log(recipe, RecipeFile.read(recipe).digest)


ONES = "[" + ", ".join(["1"] * 17) + "]"


def test_fix_twice_and_undo_once_leaves_exactly_the_expected_text(recipe: Path) -> None:
    first = fix(recipe, ["hands"])
    assert first.written and recipe.read_text() == HANDS
    assert [(c.vector, c.block, c.before, c.after) for c in first.changes[:2]] == [
        ("GP1", "IN04", "0.9", "0.8"),
        ("GP1", "IN05", "0.9", "0.8"),
    ]
    fix(recipe, ["hands"])
    assert recipe.read_text() == TWICE, "what is at 0 stays at 0"
    back = undo(recipe)
    assert recipe.read_text() == HANDS and back.changes[0].before == "0.7" and back.changes[0].after == "0.8"
    undo(recipe)
    assert recipe.read_text() == RECIPE and not sidecar(recipe).exists()
    with pytest.raises(RecipeError, match="no fix to undo"):
        undo(recipe)


def test_the_next_fix_of_a_symptom_goes_to_its_next_step(recipe: Path) -> None:
    assert [fix(recipe, ["limbs"]).made[0].step for _ in range(3)] == [1, 2, 2]
    undo(recipe)
    undo(recipe)
    assert fix(recipe, ["LIMBS"], dry_run=True).made[0].step == 2
    undo(recipe)
    assert fix(recipe, ["limbs"], dry_run=True).made[0].step == 1


def test_chaos_ends_and_its_strength_scales_the_whole_sum(recipe: Path) -> None:
    fix(recipe, ["chaos"])
    fix(recipe, ["chaos"])
    assert '"a:0.8:GP1,  b:-0.8:GP2" ,' in recipe.read_text()
    up = fix(recipe, ["chaos"])
    assert ("gp2", "BASE", "0.30", "0.40") in [(c.vector, c.block, c.before, c.after) for c in up.changes]
    down = fix(recipe, ["chaos"])
    assert ("gp2", "OUT11", "0.3", "0.1") in [(c.vector, c.block, c.before, c.after) for c in down.changes]
    with pytest.raises(RecipeError, match="chaos: the rules have nothing more to try"):
        fix(recipe, ["chaos"])
    for _ in range(4):
        undo(recipe)
    assert recipe.read_text() == RECIPE


def test_a_dry_run_writes_nothing(recipe: Path) -> None:
    outcome = fix(recipe, ["hands"], size=Decimal("0.25"), dry_run=True)
    assert not outcome.written and recipe.read_text() == RECIPE and not sidecar(recipe).exists()
    assert "0.65, 0.65, 0.35, 0.25," in outcome.text
    assert sized(recipe, ["hands"], Decimal(0)) == RECIPE and sized(recipe, ["hands"], Decimal("0.25")) == outcome.text


def test_several_symptoms_at_once_say_what_conflicts(recipe: Path) -> None:
    fix(recipe, ["limbs"])
    before = recipe.read_text()
    with pytest.raises(RecipeError, match="limbs lowers and face raises GP1 IN07 IN08 M00"):
        fix(recipe, ["limbs", "face"])
    assert recipe.read_text() == before
    outcome = fix(recipe, ["hands", "face"])
    moved = {(c.role, c.block): (c.before, c.after) for c in outcome.changes}
    assert ("GP1", "IN07") not in moved and moved["GP1", "M00"] == ("0.4", "0.5")
    assert outcome.conflicts and "left as it is" in outcome.conflicts[0]
    later = fix(recipe, ["limbs"])
    assert any("against an earlier fix: hands and face had raised" in note for note in later.notes)


def test_a_preset_used_by_name_is_first_copied_into_blocks(tmp_path: Path) -> None:
    path = write(tmp_path / "r.yaml", '"a:1:GP1,b:-1:GP2"')
    before = path.read_text()
    outcome = fix(path, ["hands"])
    assert path.read_text() == (
        "version: 1\n"
        "blocks:\n"
        "  GP1: [1.0, 0.6, 0.9, 0.8, 0.8, 0.5, 0.4, 0.4, 0.4, 0.6, 0.8, 1.0, 1.1, 1.1, 1.1, 1.1, 1.1]\n"
        "  GP2: [0.3, 0.1, 0.1, 0.0, 0.0, 0.0, 0.0, 0.1, 0.1, 0.1, 0.1, 0.1, 0.2, 0.2, 0.2, 0.2, 0.2]\n"
        'steps:\n  m: {merge: "a:1:GP1,b:-1:GP2"}\n'
    )
    assert "GP1 was copied into `blocks:`, where its numbers can be edited" in outcome.notes
    undo(path)
    assert path.read_text() == before
    fix(path, ["limbs"])
    assert "GP2:" not in path.read_text(), "only what the step edits is copied"
    undo(path)
    for mapping in (f"blocks: {{MINE: {ONES}}}\n", "blocks: {}\n", f"blocks:\n    MINE: {ONES}\n"):
        whole = write(path, '"a:1:gp1,b:-1:MINE"' if "MINE" in mapping else '"a:1:gp1"', mapping).read_text()
        fix(path, ["face"])
        assert read_recipe(path)[0].blocks["gp1"][5:11] == pytest.approx([0.7, 0.6, 0.5, 0.5, 0.7, 0.9])  # type: ignore[comparison-overlap]
        undo(path)
        assert path.read_text() == whole


def test_numbers_inside_text_and_inside_the_merge_string(tmp_path: Path) -> None:
    inline = "1.0, 1,1,1,1,1,1,1,1,1,1,1,1,1,1,1, 0.5"
    path = write(tmp_path / "r.yaml", f'"a:0.7:{inline},b@8:-1:SOFT"', f"blocks:\n  SOFT: {', '.join(['0.5'] * 17)}\n")
    before = path.read_text()
    fix(path, ["hands"])
    assert "a:0.7:1.0, 1,1,0.9,0.9,0.9,0.9,1," in path.read_text()
    assert "SOFT: 0.5, 0.5, 0.5, 0.4, 0.4, 0.4, 0.4, 0.5" in path.read_text()
    undo(path)
    assert path.read_text() == before
    expression = write(path, '"a:1:SOFT"', "blocks:\n  SOFT: GP1,OUT03=0.8   # softer\n").read_text()
    fix(path, ["limbs"])
    assert (
        "  SOFT: [0.9, 0.6, 0.9, 0.9, 0.9, 0.6, 0.5, 0.4, 0.8, " in path.read_text() and "# softer" in path.read_text()
    )
    undo(path)
    assert path.read_text() == expression


def test_a_byte_order_mark_and_windows_line_ends_stay(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + RECIPE.replace("\n", "\r\n").encode())
    fix(path, ["hands"])
    assert path.read_bytes() == b"\xef\xbb\xbf" + HANDS.replace("\n", "\r\n").encode()
    undo(path)
    path.write_bytes(b'version: 1\r\nsteps:\r\n  m: {merge: "a:1:GP1"}\r\n')
    fix(path, ["limbs"])
    assert b"\r\nblocks:\r\n  GP1: [0.9, " in path.read_bytes() and b"\n\n" not in path.read_bytes()


def test_undo_after_a_hand_edit_takes_back_only_what_the_fix_wrote(recipe: Path) -> None:
    fix(recipe, ["hands"])
    mine = recipe.read_text().replace("# down", "# the way down").replace("0.9,   0.8, 0.8", "0.9,   0.85, 0.8")
    recipe.write_text(mine, encoding="utf-8")
    outcome = undo(recipe)
    assert "0.9,   0.85, 0.9, 0.6, 0.5,    # the way down" in recipe.read_text()
    assert "left as they are: GP1 IN04" in outcome.notes and not history(recipe)
    fix(recipe, ["limbs"])
    recipe.write_text(recipe.read_text().replace("GP1: [0.9", "GP1: [0.95"), encoding="utf-8")
    with pytest.raises(RecipeError, match="none of its numbers is still what the fix wrote"):
        undo(recipe)


def test_a_kill_between_the_two_writes_is_survived(recipe: Path) -> None:
    fix(recipe, ["limbs"])
    remembered = sidecar(recipe).read_text()
    recipe.write_text(RECIPE, encoding="utf-8")  # noted, but the recipe never was written
    assert not history(recipe) and fix(recipe, ["limbs"], dry_run=True).made[0].step == 1
    fix(recipe, ["limbs"])
    assert sidecar(recipe).read_text() == remembered
    sidecar(recipe).write_text("{")
    with pytest.raises(FileError, match=r"is damaged.*delete it to forget the fixes"):
        fix(recipe, ["hands"])
    sidecar(recipe).write_text(json.dumps({"version": 1, "edits": [{}]}))
    with pytest.raises(FileError, match="is damaged"):
        undo(recipe)


@pytest.mark.parametrize(
    ("merge", "blocks", "symptom", "message"),
    [
        ('"a:1:GP1"', "", "hand", r"did you mean 'hands'"),
        ('"a:1"', "", "limbs", r"line 3: steps.m: a has no block vector; give it one, such as a:1:ALL"),
        ('"a:1:GP1,OUT03=0.8"', "", "limbs", "stands inside the merge string; give it a name under `blocks:`"),
        ('"a:1:GP3"', "", "limbs", "unknown block preset 'GP3'"),
        ('"a:1:X,b:-1:X"', f"blocks: {{X: {ONES}}}\n", "hands", "both terms of the merge use the vector X"),
        ('"a:1:X"', "blocks: {X: [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]}\n", "clothes", "of SDXL LoRA .*has no IN02"),
        ('"a:1:X"', f"blocks: {{X: {ONES.replace('1', '0')}}}\n", "limbs", "the rules have nothing more to try"),
        ('"b:-1:GP2"', "", "clothes", "the rules have nothing more to try"),
        ('"a\\u003A1:GP1"', "", "limbs", "in one line and without escapes"),
        (
            '"a:1:X"',
            f"blocks: {{X: {ONES.replace('[1', '[0x1')}}}\n",
            "limbs",
            r"line 2: '0x1' is not written by decimal",
        ),
        ('"a:1:X"', f"blocks: {{X: {ONES.replace('[1', '[&w 1')}}}\n", "limbs", r"line 2: '&w 1' is not written by"),
    ],
)
def test_what_cannot_be_edited_is_named_and_untouched(
    tmp_path: Path, merge: str, blocks: str, symptom: str, message: str
) -> None:
    path = write(tmp_path / "r.yaml", merge, blocks)
    before = path.read_bytes()
    with pytest.raises((RecipeError, BlockError), match=message):
        fix(path, [symptom])
    assert path.read_bytes() == before and not sidecar(path).exists()


def test_steps_and_merges_are_chosen_by_name(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("version: 1\nsteps:\n  m: {merge: 'a:1:GP1'}\n  n: {merge: {terms: 'a:2:ALL'}}\n")
    with pytest.raises(RecipeError, match="several merge steps; say which with `merge=`: m, n"):
        fix(path, ["limbs"])
    fix(path, ["limbs"], merge="n")
    assert "  ALL: [0.9, 1.0," in path.read_text()
    with pytest.raises(RecipeError, match="no merge step 'o'"):
        fix(path, ["limbs"], merge="o")
    with pytest.raises(RecipeError, match="use a positive number"):
        fix(path, ["limbs"], size=Decimal(0), merge="n")
    undo(path)
    assert "ALL:" not in path.read_text()


@pytest.mark.parametrize("name", list(symptoms()))
def test_the_benchmark_treats_as_fix_does(tmp_path: Path, name: str) -> None:
    from benchmarks.blocks import treated

    path = write(tmp_path / "r.yaml", '"a:1:GP1,b:-1:GP2"')
    for _ in range(3):
        fix(path, [name])
    recipe, _ = read_recipe(path)
    presets = load_presets(recipe.blocks)
    merge = recipe.steps["m"].merge
    assert merge is not None
    weights = [abs(spec.weight) for spec in parse_merge_string(merge.terms)]
    asked = treated(*(find_preset(role, load_presets(), "sd1") for role in ("GP1", "GP2")), find_symptom(name), 3)
    for role, weight, vector in zip(("GP1", "GP2"), weights, asked, strict=True):
        assert find_preset(role, presets, "sd1").scaled(weight).weights == pytest.approx(vector.weights), role


def test_a_vector_of_an_included_file_is_not_edited(tmp_path: Path) -> None:
    listed = ", ".join(["1.0"] * 17)
    part = tmp_path / "part.yaml"
    part.write_text(f"blocks:\n  V: [{listed}]\n")
    recipe = tmp_path / "r.yaml"
    recipe.write_text('# a comment\ninclude: part.yaml\nsteps:\n  m: {merge: "a:1:V"}\n')
    before = (recipe.read_bytes(), part.read_bytes())
    with pytest.raises(RecipeError, match=r"blocks.V.*part.yaml.*copy it into the recipe"):
        fix(recipe, ["limbs"])
    assert (recipe.read_bytes(), part.read_bytes()) == before


@pytest.mark.parametrize(
    ("merge", "expected"),
    [
        ("'73501.25:1:V, b:-1:W'", "'73501.25:0.8:V, b:-0.8:W'"),
        ("'\"a, 1:2@8\":1/4:V:te=0.5, b:-1:W'", "'\"a, 1:2@8\":0.8/4:V:te=0.5, b:-0.8:W'"),
        ("'\"3 (x\":2.0:V,b:-1e-1:W:unet=2'", "'\"3 (x\":1.6:V,b:-0.08:W:unet=2'"),
        ("'a@3-5:1:V, b2:-1:W, c, d:te=0.5'", "'a@3-5:0.8:V, b2:-0.8:W, c:0.8, d:0.8:te=0.5'"),
    ],
)
def test_strength_scales_every_weight_and_no_other_number(tmp_path: Path, merge: str, expected: str) -> None:
    path = write(tmp_path / "r.yaml", merge, f"blocks: {{V: {ONES}, W: {ONES}}}\n")
    fix(path, ["chaos"])
    before = path.read_text()
    assert {change.role for change in fix(path, ["chaos"]).changes} == {"strength"}
    assert path.read_text() == before.replace(merge, expected) != before
    undo(path)
    assert path.read_text() == before


@pytest.mark.parametrize(
    "numbers", ["1_0, 1,1,1,1 ,1,1,1,1,1,1,1,1,1,1,1,1", "1.,.5,1,1e0,1,+1,1,1,1,1,1,1,1,1,1,1,+1"]
)
def test_numbers_are_edited_however_they_are_written(tmp_path: Path, numbers: str) -> None:
    items = numbers.split(",")
    lowered = [item.replace("1e0", "1").replace("+1", "1").replace("1", "0.9") for item in items[3:7]]  # IN04 to IN07
    expected = ",".join([*items[:3], *lowered, *items[7:]])
    for merge, blocks in ((f"'a:1:{numbers}'", ""), ("'a:1:V'", f"blocks:\n  V: {numbers}\n")):
        path = write(tmp_path / "r.yaml", merge, blocks)
        before = path.read_text()
        fix(path, ["hands"])
        assert path.read_text() == before.replace(numbers, expected)
        undo(path)
        assert path.read_text() == before


def test_the_numbers_inside_a_prompts_tag_are_edited(tmp_path: Path) -> None:
    names = ",".join(["1"] * 17)
    text = f'"<lora:a:0.9:lbw={names}> <lora:b:te=-1:unet=-0.5:lbw=GP2>"'
    path = write(tmp_path / "r.yaml", text)
    edited = sized(path, ["hands"], Decimal("0.1"))
    assert "<lora:a:0.9:lbw=1,1,1,0.9,0.9,0.9,0.9,1,1," in edited
    before = path.read_text(encoding="utf-8")
    fix(path, ["hands"])
    undo(path)
    assert path.read_text(encoding="utf-8") == before


def test_a_tag_with_two_strengths_has_no_weight_to_edit(tmp_path: Path) -> None:
    path = write(tmp_path / "r.yaml", '"<lora:a:0.5:lbw=ALL>, <lora:b:te=-1:unet=-0.5:lbw=ALL>"')
    with pytest.raises(
        RecipeError, match=r"the tag of b has one strength .*write it as b:1\.0:ALL:te=-1\.0:unet=-0\.5"
    ):
        for _ in range(2):
            fix(path, ["chaos"])  # whose second step lowers the strength of the whole sum
