"""The list of steps and options in the documentation is the one that the models give, and every kind can run."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from loratools.recipe.kinds import KINDS
from loratools.recipe.reference import reference

DOCS = Path(__file__).parents[2] / "docs/recipes.md"


def test_the_documentation_lists_every_step_and_option() -> None:
    assert DOCS.read_text(encoding="utf-8").endswith(reference().rstrip() + "\n"), (
        "docs/recipes.md is behind the models; run python -m tests.recipe.regenerate"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_its_step(kind: str) -> None:
    assert find_spec(f"loratools.recipe.steps.{kind}") is not None
