"""The list of steps and options in the documentation is the one that the models give, and every kind can run."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from loratools.recipe.schema.json_schema import json_schema
from loratools.recipe.schema.kinds import KINDS, folder_of
from loratools.recipe.schema.option_table import reference
from loratools.recipe.steps.lora.train import OURS

DOCS = Path(__file__).parents[3] / "docs/recipes.md"


def test_the_documentation_lists_every_step_and_option() -> None:
    assert DOCS.read_text(encoding="utf-8").endswith(reference().rstrip() + "\n"), (
        "docs/recipes.md is behind the models; run python -m tests.recipe.regenerate"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_its_step(kind: str) -> None:
    assert find_spec(f"loratools.recipe.steps.{folder_of(kind)}.{kind}") is not None


@pytest.mark.parametrize(
    "part", ["Train", "Basestyle", "Subset", *(model.__name__ for model in KINDS.values() if model)]
)
def test_every_option_says_in_one_line_what_it_is(part: str) -> None:
    options = json_schema()["$defs"][part]["properties"]
    long = {name: text for name, value in options.items() if not 3 < len(text := value.get("description", "")) <= 130}
    assert not long and not any("\n" in value["description"] for value in options.values())


@pytest.mark.parametrize("kind", ["train", "basestyle"])
def test_what_a_recipe_says_elsewhere_is_no_option(kind: str) -> None:
    assert not {*OURS} & json_schema()["$defs"][kind.capitalize()]["properties"].keys()
