"""Where the ready recipes lie: ``recipes/`` at the top of a checkout, ``loratools/recipes/`` in an installed wheel."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parents[1]
_INSTALLED = _PACKAGE / "recipes"
RECIPES = _INSTALLED if _INSTALLED.is_dir() else _PACKAGE.parent / "recipes"
SCHEMA = RECIPES / "recipe.schema.json"
