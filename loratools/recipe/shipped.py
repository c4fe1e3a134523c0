"""Where the ready recipes lie: ``recipes/`` at the top of a checkout, ``loratools/recipes/`` in an installed wheel."""

from __future__ import annotations

from pathlib import Path

import loratools

_PACKAGE = Path(loratools.__file__).parent
_INSTALLED = _PACKAGE / "recipes"
RECIPES = _INSTALLED if _INSTALLED.is_dir() else _PACKAGE.parent / "recipes"
SCHEMA = RECIPES / "recipe.schema.json"
