"""The starter runs as it is, the schema that ships is the models' own, and the command line offers both."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from loratools.cli import cli
from loratools.errors import FileError, RecipeError
from loratools.recipe.importers.starter import Answers, questions, starter
from loratools.recipe.importers.write import flow, step_name, write_new
from loratools.recipe.plan.context import RunContext
from loratools.recipe.run.runner import make_planner, run_steps
from loratools.recipe.schema.json_schema import json_schema, schema_text
from loratools.recipe.schema.kinds import STEP_KINDS
from loratools.recipe.schema.recipe import parse_recipe
from loratools.recipe.shipped import RECIPES, SCHEMA
from loratools.yamlio import load_yaml, read_yaml
from tests.recipe.conftest import save_lora
from tests.recipe.schema_check import wrong


@pytest.mark.parametrize("kind", ["style", "character"])
def test_a_starter_can_be_planned_as_it_is(here: Path, kind: Any) -> None:
    Path("new.yaml").write_text(starter(Answers(kind=kind, epochs=3), Path("new.yaml")), encoding="utf-8")
    planned = {step.name: step for step in make_planner("new.yaml").plan()}
    assert planned[kind].draft.epochs == 3
    assert list(planned)[-1] == f"my_{kind}" and planned[f"my_{kind}"].needs == ("final", "sheet")


def test_a_merge_starter_runs(here: Path, tiny_base: Path) -> None:
    save_lora(here / "a.safetensors", 1)
    save_lora(here / "b.safetensors", 2)
    answers = Answers("merge", str(tiny_base), loras="a:1:GP1, b:-1:GP2", name="my best", prompt="1girl")
    text = starter(answers, Path("m.yaml")).replace("seeds: 1 ", "size: 64\n      steps: 1\n      seeds: 1 ")
    Path("m.yaml").write_text(text.replace("0:1:0.25", "1"), encoding="utf-8")
    run_steps(make_planner("m.yaml", Path("work")).plan(), Path("work"), RunContext(device="cpu"))
    assert Path("work/my_best/my_best.png").is_file()
    grid = starter(Answers("grid", str(tiny_base), loras="a:0.5, b"), Path("g.yaml"))
    assert parse_recipe(grid)[0].steps["sheet"].grid.rows == ("a:0.5", "b:1.0")  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        (Answers("merge"), "give --loras"),
        (Answers("style", preset="pocket-stile"), r"\(did you mean 'pocket-style'\?\)"),
        (Answers("grid", loras="a:x"), "'x'"),
    ],
)
def test_answers_that_make_no_recipe(answers: Answers, words: str) -> None:
    with pytest.raises(Exception, match=words):
        starter(answers, Path("x.yaml"))


def test_every_answer_is_asked_for() -> None:
    for kind in ("style", "character", "merge", "grid"):
        asked = {key for key, _, _ in questions(kind)}
        assert asked <= set(Answers.__dataclass_fields__)
        assert {"base", "prompt"} <= asked


def test_the_commands(here: Path) -> None:
    run = CliRunner().invoke
    assert run(cli, ["recipe", "new", "a.yaml", "--yes", "--epochs", "2"]).exit_code == 0
    assert "epochs: 2" in Path("a.yaml").read_text(encoding="utf-8")
    again = run(cli, ["recipe", "new", "a.yaml", "--yes"])
    assert isinstance(again.exception, FileError) or again.exit_code == 1
    assert run(cli, ["recipe", "schema", "-o", "s.json"]).exit_code == 0
    assert run(cli, ["recipe", "schema", "-o", "s.json"]).exit_code == 0  # our own may be replaced
    assert Path("s.json").read_text(encoding="utf-8") == schema_text()
    assert "`preferred" not in run(cli, ["recipe", "steps", "resize"]).stdout
    assert run(cli, ["recipe", "steps", "resize"]).stdout.startswith("### `resize`")
    assert run(cli, ["recipe", "steps", "resise"]).exit_code == 1
    shown = run(cli, ["recipe", "import", "a:1:GP1"])
    assert shown.exit_code == 0 and parse_recipe(shown.stdout)[0].steps["final"].kind == "merge"


def test_answers_are_asked_for_on_a_terminal(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loratools.cli.recipe.new._is_terminal", lambda: True)
    answers = "character\ntiny\nmy images\n5\nmika\n1girl, smile\n"
    result = CliRunner().invoke(cli, ["recipe", "new", "a.yaml", "--preset", "pocket-style"], input=answers)
    assert result.exit_code == 0, result.output
    recipe, _ = parse_recipe(Path("a.yaml").read_text(encoding="utf-8"))
    assert recipe.base == "tiny"
    assert recipe.steps["character"].train == {"images": "my images", "preset": "pocket-style", "epochs": 5}
    assert recipe.steps["mika"].kind == "publish" and recipe.steps["sheet"].grid.prompts == ("1girl, smile",)  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", ["style", "character"])
def test_a_trained_starter_runs(here: Path, tiny_base: Path, kind: Any) -> None:
    text = starter(Answers(kind, str(tiny_base), preset="pocket-style", epochs=1), Path("s.yaml"))
    smaller = [
        ("count: 12", "count: 2, size: 64"),
        ("0:1:0.25", "1"),
        ("      seeds: 1", "      steps: 1\n      seeds: 1"),
        (", epochs: 1, repeats: 16", ", epochs: 1"),
        ("preset: pocket-style", "preset: pocket-style, repeats: 1, dim: 2"),
        ("basestyle: {", "basestyle: {images_per_framing: 1, "),
    ]
    for old, new in smaller:
        text = text.replace(old, new)
    Path("s.yaml").write_text(text, encoding="utf-8")
    ran = run_steps(make_planner("s.yaml", Path("work")).plan(), Path("work"), RunContext(device="cpu"))
    assert {path.name for path in ran[-1].planned.out.iterdir()} >= {f"my_{kind}.png", f"my_{kind}.json", "README.md"}


def test_the_shipped_schema_is_the_models_own() -> None:
    assert SCHEMA.read_text(encoding="utf-8") == schema_text(), (
        "the shipped schema is behind the models; run python -m tests.recipe.regenerate"
    )


def test_the_schema_knows_every_step_and_every_reference_leads_somewhere() -> None:
    schema = json_schema()
    step = schema["$defs"]["Step"]
    assert list(step["properties"]) == [*STEP_KINDS, "out"]
    assert [item["required"] for item in step["oneOf"]] == [[kind] for kind in STEP_KINDS]
    assert {ref.removeprefix("#/$defs/") for ref in references(schema)} <= set(schema["$defs"])


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_schema_fits_every_shipped_recipe(path: Path) -> None:
    assert path.read_text(encoding="utf-8").startswith("# yaml-language-server: $schema=recipe.schema.json\n")
    schema = json_schema()
    assert list(wrong(read_yaml(path).data, schema, schema["$defs"])) == []


def test_the_schema_sees_mistakes() -> None:
    schema = json_schema()
    for text in (
        "{}",
        "steps: {a: {drow: {style: ink}}}",
        "steps: {a: {draw: {style: ink, count: many}}}",
        "steps: {a: {merge: {term: x}}}",
        "steps: {a: {merge: x, draw: {style: ink}}}",
        "sead: 1\nsteps: {}",
        "steps: {a: {train: {images: x, epochs: some}}}",
    ):
        assert list(wrong(load_yaml(text).data, schema, schema["$defs"])), text


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        yield from ([part["$ref"]] if "$ref" in part else [])
        for value in part.values():
            yield from references(value)
    if isinstance(part, list):
        for value in part:
            yield from references(value)


@pytest.mark.parametrize("value", ["a b", "true", "null", "1e3", "a: b", "x #y", "", "~", 0.1, [1, "a,b"], {"k": None}])
def test_flow_is_read_back(value: Any) -> None:
    assert load_yaml(f"x: {{y: {flow(value)}}}").data == {"x": {"y": value}}
    assert json.loads(json.dumps(value)) == value


def test_names_and_new_files(here: Path) -> None:
    assert (step_name("my style!"), step_name("  "), step_name("a.b-c")) == ("my_style", "final", "a.b-c")
    write_new(Path("a"), "x", force=False)
    with pytest.raises(FileError, match="force=True"):
        write_new(Path("a"), "y", force=False)
    write_new(Path("a"), "y", force=True)
    assert Path("a").read_text(encoding="utf-8") == "y"
    assert issubclass(RecipeError, Exception)
