"""Makes what is generated from the models anew: ``python -m tests.recipe.regenerate`` after a change of a step or of a
training setting."""

from __future__ import annotations

from pathlib import Path

from loratools.recipe.schema.json_schema import schema_text
from loratools.recipe.schema.option_table import option_tables
from loratools.recipe.shipped import SCHEMA

DOCS = Path(__file__).parents[2] / "docs/recipes.md"
FIRST = "### `draw`"


def regenerate() -> None:
    SCHEMA.write_text(schema_text(), encoding="utf-8")
    written = DOCS.read_text(encoding="utf-8")
    DOCS.write_text(written[: written.index(FIRST)] + option_tables().rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    regenerate()
