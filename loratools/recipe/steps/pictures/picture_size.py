"""Whether the recipe's base can make pictures of a size."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence

from loratools.recipe.plan.planner import Planner


def check_size(size: Sequence[int], planner: Planner, name: str, *place: str | int) -> None:
    """Raise RecipeError if the base's VAE cannot make pictures of ``size`` (height, width); a base that is not a folder
    of Diffusers here has the factor of all known families, 8."""
    config = planner.paths.base_path() / "vae/config.json"
    unit = 8
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        unit = 2 ** (len(json.loads(config.read_text(encoding="utf-8"))["block_out_channels"]) - 1)
    if any(side < unit or side % unit for side in size):
        message = f"a size of {size[1]}x{size[0]} does not fit; width and height must be multiples of {unit}"
        raise planner.error(name, *place, message=message)
