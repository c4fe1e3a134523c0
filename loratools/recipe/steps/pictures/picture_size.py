"""Whether the recipe's base can make pictures of a size."""

from __future__ import annotations

from collections.abc import Sequence

from loratools.errors import GridError
from loratools.recipe.plan.planner import StepRequest


def check_size(size: Sequence[int], step: StepRequest, *place: str | int) -> None:
    """Raise RecipeError if the base's VAE cannot make pictures of ``size`` (height, width); a base that is not a folder
    of Diffusers here has the factor of all known families, 8."""
    from loratools.base import picture_size

    try:
        picture_size.check_size(size, picture_size.scale_factor_of_folder(step.paths.base_path()))
    except GridError as error:
        raise step.error(*place, message=str(error)) from error
