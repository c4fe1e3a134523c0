"""The list of steps and options in the documentation is the one that the models give, and every kind can run."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from loratools.cli.training import train
from loratools.recipe import steps
from loratools.recipe.plan.planner import draft_function
from loratools.recipe.schema.json_schema import json_schema, part_name
from loratools.recipe.schema.kinds import STEP_KINDS, module_of, step_kind, step_kinds
from loratools.recipe.schema.option_table import option_tables
from loratools.recipe.shipped import SCHEMA
from loratools.recipe.steps.lora.train_settings import ELSEWHERE

DOCS = Path(__file__).parents[3] / "docs/recipes.md"


def test_the_documentation_lists_every_step_and_option() -> None:
    assert DOCS.read_text(encoding="utf-8").endswith(option_tables().rstrip() + "\n"), (
        "docs/recipes.md is behind the models; run python -m tests.recipe.regenerate"
    )


@pytest.mark.parametrize("name", STEP_KINDS)
def test_every_kind_is_declared_by_its_own_module(name: str) -> None:
    kind = step_kind(name)
    assert kind.name == name and module_of(name).__name__.endswith(f".{name}")
    assert list(inspect.signature(draft_function(name)).parameters) == ["request"]
    assert kind.made_for is None or kind.made_for in STEP_KINDS


def test_no_default_is_shown_as_pydantic_has_it() -> None:
    root = Path(__file__).parents[3]
    pages = [*(root / "docs").rglob("*.md"), root / "README.md", SCHEMA]
    shown = {path.name: path.read_text(encoding="utf-8") for path in pages} | {"the tables": option_tables()}
    shown["the help"] = CliRunner().invoke(train.command, ["--help"]).output
    assert not [name for name, text in shown.items() if "PydanticUndefined" in text or "default_factory" in text]


def test_no_kind_is_left_out_of_the_list() -> None:
    folder = Path(str(steps.__file__)).parent
    declared = {path.stem for path in folder.rglob("*.py") if "\nKIND = StepKind(" in path.read_text(encoding="utf-8")}
    assert declared == set(STEP_KINDS)


@pytest.mark.parametrize("part", ["Subset", *(part_name(kind) for kind in step_kinds().values())])
def test_every_option_says_in_one_line_what_it_is(part: str) -> None:
    options = json_schema()["$defs"][part]["properties"]
    long = {name: text for name, value in options.items() if not 3 < len(text := value.get("description", "")) <= 130}
    assert not long and not any("\n" in value["description"] for value in options.values())


@pytest.mark.parametrize("part", ["Train", "Basestyle"])
def test_what_a_recipe_says_elsewhere_is_no_option(part: str) -> None:
    assert not ELSEWHERE.keys() & json_schema()["$defs"][part]["properties"].keys()


def test_reading_a_recipe_loads_every_kind_and_nothing_heavy() -> None:
    code = (
        "import sys; from loratools.recipe.schema.recipe import parse_recipe; parse_recipe('steps: {a: {merge: b}}'); "
        "print(*sorted({'torch', 'numpy', 'PIL', 'safetensors'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not done.stdout.split()
