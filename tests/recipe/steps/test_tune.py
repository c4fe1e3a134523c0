"""The ``tune`` step: made once, made again when what it asks for changes, its file of use to later steps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from loratools.adapter.files.file import read
from loratools.base.model import Base
from loratools.errors import RecipeError
from loratools.measures.estimate import Estimate
from loratools.ops.merging.terms import Term
from loratools.preview import session
from loratools.recipe.plan.context import RunContext
from loratools.recipe.run.runner import make_planner, run_steps
from loratools.tune import run as tune_run
from loratools.tune.problem import effort
from loratools.tune.problem.effort import Effort
from loratools.tune.report.verdict import Verdict
from loratools.tune.then import chain
from loratools.tune.then.way import Made, Turn
from tests.recipe.conftest import save_lora

RECIPE = """\
version: 1
base: {base}
steps:
  better: {{tune: {{lora: "a:1:GP1", symptom: hands, measure: "python={module}:bright", prompts: prompts.txt,
                    seeds: [1], steps: 2, quick: true}}}}
  sum: {{merge: "better:1, b:-0.5"}}
"""
MEASURE = """\
def bright(images, prompts, seeds):
    return [sum(image.convert("L").histogram()[128:]) for image in images]
"""
SMALL = Effort(
    prompts=2,
    held_out=2,
    pool=4,
    shots=2,
    population=3,
    screening=9,
    generations=1,
    checks=1,
    fresh=2,
    strengths=(0.7,),
)


@pytest.fixture
def recipe(here: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(effort, "QUICK", SMALL)
    monkeypatch.setattr(tune_run, "write_both", lambda result: None)
    save_lora(here / "a.safetensors", 1)
    save_lora(here / "b.safetensors", 2)
    (here / "prompts.txt").write_text("1girl, smile\n1girl, hat\n1girl, red hair\n1girl\n", encoding="utf-8")
    module = f"step_{here.name.replace('-', '_')}"
    (here / f"{module}.py").write_text(MEASURE, encoding="utf-8")
    path = here / "r.yaml"
    path.write_text(RECIPE.format(base=tiny_base, module=module), encoding="utf-8")
    return path


def run(recipe: Path) -> dict[str, bool]:
    """Step -> whether its result was there already."""
    planner = make_planner(recipe)
    return {one.planned.name: one.cached for one in run_steps(planner.plan(), planner.work, RunContext("cpu"))}


def test_a_tuned_lora_is_made_once_and_used_by_later_steps(recipe: Path, here: Path) -> None:
    assert run(recipe) == {"better": False, "sum": False}
    folder = here / "runs/r"
    found = json.loads((folder / "better-tune/tune.json").read_text())
    tuned = read(folder / "better.safetensors")
    header = json.loads(tuned.metadata["loratools"])
    assert header["owner"] == "recipe:r:better" and header["recipe"]["step"] == "better"
    assert header["step"]["merge"][0]["vector"]["M00"] == found["vector"]["M00"]
    assert set(read(folder / "sum.safetensors")) == set(tuned)
    assert run(recipe) == {"better": True, "sum": True}
    recipe.write_text(recipe.read_text().replace("symptom: hands", "symptom: face"), encoding="utf-8")
    assert run(recipe)["better"] is False
    recipe.write_text(recipe.read_text().replace("symptom: face", "symptom: hands"), encoding="utf-8")
    assert run(recipe)["better"] is True, "it is kept in the cache"


def test_a_measure_lies_beside_the_recipe_and_is_part_of_the_steps_key(
    recipe: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def planned() -> dict[str, str]:
        return {step.name: step.key for step in make_planner(recipe).plan()}

    before = planned()
    (module,) = here.glob("step_*.py")
    (here / "elsewhere").mkdir()
    monkeypatch.chdir(here / "elsewhere")
    assert planned() == before, "whatever the current folder is"
    module.write_text(MEASURE.replace("128", "64"), encoding="utf-8")
    after = planned()
    assert after["better"] != before["better"], "figures of the measure as it was are no use"
    text = recipe.read_text()
    begin, end = text.index('measure: "'), text.index(", prompts:")
    recipe.write_text(text[:begin] + "measure: [like=good, unlike=bad]" + text[end:], encoding="utf-8")
    with pytest.raises(RecipeError, match="'good' is no step"):
        planned()
    for name in ("good", "bad"):
        (here / name).mkdir()
        Image.new("RGB", (8, 8)).save(here / name / "0.png")
    marked = planned()
    Image.new("RGB", (8, 8), "red").save(here / "bad/1.png")
    assert len({own["better"] for own in (after, marked, planned())}) == 3


def test_a_way_that_follows_is_part_of_the_step(recipe: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a maker that hands on the other LoRA, which has less of what is measured."""
    seen: list[Turn] = []

    def maker(turn: Turn) -> Made:
        seen.append(turn)
        return Made((Term(read(here / "b.safetensors"), 1.0, label="b"),), "made up")

    monkeypatch.setattr(chain, "_MAKERS", {"picks": maker})
    monkeypatch.setattr(
        chain,
        "judge_answer",
        lambda held, goals, checks, columns, _: Verdict(columns[0], Estimate(-1, 0.1, 2), True, ()),
    )
    before = recipe.read_text()
    assert run(recipe)["better"] is False
    recipe.write_text(before.replace("symptom: hands", "symptom: hands, then: picks"), encoding="utf-8")
    assert run(recipe) == {"better": False, "sum": False} and len(seen) == 1
    folder = here / "runs/r"
    found = json.loads((folder / "better-tune/tune.json").read_text())
    assert found["answer"] == "1-picks" and found["then"][0]["helped"]
    assert set(read(folder / "better.safetensors")) == set(read(here / "b.safetensors"))
    assert run(recipe)["better"] is True and len(seen) == 1
    recipe.write_text(before.replace("symptom: hands", "symptom: hands, then: [picks, dance]"), encoding="utf-8")
    with pytest.raises(RecipeError, match="there is no way 'dance'"):
        make_planner(recipe).plan()


def test_a_search_draws_with_the_base_that_a_grid_loaded(
    recipe: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And finds what it finds on a base of its own; the grid after it has the base as it was."""
    run(recipe)
    alone = read(here / "runs/r/better.safetensors").digest
    grid = "{{grid: {{rows: {row}, weights: 1, prompts: 1girl, steps: 2, sampler: DDIM, size: 64}}}}\n"
    text = recipe.read_text().replace("steps:\n", "steps:\n  before: " + grid.format(row="a"))
    recipe = here / "again.yaml"
    recipe.write_text(text + "  after: " + grid.format(row="better"), encoding="utf-8")
    loaded: list[str] = []
    load = session.load_any_base

    def note(name: str, **options: Any) -> Base:
        loaded.append(name)
        return load(name, **options)

    monkeypatch.setattr(session, "load_any_base", note)
    monkeypatch.setattr("loratools.base.any_base.load_any_base", note)
    planner = make_planner(recipe)
    done = run_steps(planner.plan(), planner.work, RunContext("cpu"))
    assert {one.planned.name: one.cached for one in done} == dict.fromkeys(("before", "better", "sum", "after"), False)
    assert len(loaded) == 1
    assert read(here / "runs/again/better.safetensors").digest == alone
    bases = [(here / f"runs/again/{name}").rglob("cells/base/**/*.png") for name in ("before", "after")]
    first, last = (Image.open(next(iter(paths))).tobytes() for paths in bases)
    assert first == last


def test_a_mistake_is_told_at_its_option(recipe: Path) -> None:
    for wrong, message in (
        ("symptom: nose", "there is no symptom 'nose'"),
        ("symptom: hands, keep: 2", "keep"),
        ("symptom: hands, lowest: 1.5", r"lowest.* is no least weight of a block"),
        ("symptom: hands, highest: 0.5", r"highest.* is no greatest weight of a block"),
        ("symptom: hands, sampler: 3", "sampler"),
        ("symptom: hands, training: nowhere", "nowhere"),
    ):
        text = recipe.read_text()
        (recipe.parent / "wrong.yaml").write_text(text.replace("symptom: hands", wrong), encoding="utf-8")
        with pytest.raises(RecipeError, match=message):
            make_planner(recipe.parent / "wrong.yaml").plan()


@pytest.mark.parametrize("measure", ["votes", "marks"])
def test_a_step_cannot_wait_for_a_person(recipe: Path, measure: str) -> None:
    text = recipe.read_text()
    begin, end = text.index('measure: "'), text.index(", prompts:")
    recipe.write_text(text[:begin] + f"measure: {measure}" + text[end:], encoding="utf-8")
    with pytest.raises(RecipeError, match="a recipe's step cannot wait for a person's answers"):
        make_planner(recipe).plan()


@pytest.fixture
def trained(recipe: Path, here: Path) -> str:
    """The recipe's text, of the third epoch of a run."""
    (here / "ink").mkdir()
    for number in (1, 2, 3):
        save_lora(here / f"ink/ink-{number:06d}.safetensors", number)
    return recipe.read_text(encoding="utf-8").replace("a:1:GP1", "ink@3:1:GP1")


def with_option(recipe: Path, text: str, option: str) -> Path:
    recipe.write_text(text.replace("symptom: hands", f"symptom: hands, {option}"), encoding="utf-8")
    return recipe


def test_an_earlier_epoch_by_block_is_part_of_the_steps_key(recipe: Path, here: Path, trained: str) -> None:
    def key(option: str) -> str:
        return make_planner(with_option(recipe, trained, option)).step("better").key

    keys = [key(option) for option in ("keep: 0.95", "epochs_by_block: 1", "epochs_by_block: 2", "lowest: -0.3")]
    assert len(set(keys)) == 4 and key("lowest: -0.5") == keys[0]
    save_lora(here / "ink/ink-000001.safetensors", 7)
    assert key("epochs_by_block: 1") != keys[1], "another earlier epoch is another tune"


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("epochs_by_block: 3", "epoch 3 is the one that is tuned"),
        ("epochs_by_block: 9", "9"),
        ("epochs_by_block: 0", "epochs_by_block"),
        ("epochs_by_block: 1, parts: kinds", "'parts: kinds' does not go with `epochs_by_block`"),
        ("epochs_by_block: 1, method: gradient", "'method: gradient' does not go with `epochs_by_block`"),
    ],
)
def test_an_epoch_that_is_no_earlier_one(recipe: Path, trained: str, option: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        make_planner(with_option(recipe, trained, option)).plan()


def test_a_single_file_has_no_earlier_epoch(recipe: Path, trained: str) -> None:
    with pytest.raises(RecipeError, match="'b' is a single file; only a run"):
        make_planner(with_option(recipe, trained.replace("ink@3:1:GP1", "b:1"), "epochs_by_block: 1")).plan()


@pytest.mark.slow
def test_blocks_may_come_from_an_earlier_epoch_of_the_run(recipe: Path, here: Path, trained: str) -> None:
    blended = with_option(recipe, trained, "epochs_by_block: 1, lowest: -0.3")
    assert run(blended)["better"] is False
    found = json.loads((here / "runs/r/better-tune/tune.json").read_text())
    assert set(found["earlier"]) == {"BASE", "IN01", "M00", "OUT11"} and min(found["vector"].values()) >= -0.3
    assert run(blended)["better"] is True, "it is made once"
