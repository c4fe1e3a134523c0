"""``mask_folder: set/masks`` of a training's images: masks that an earlier step makes, or finds none to make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loratools.recipe.plan.planner import StepRequest
from loratools.recipe.plan.step import StepInput

if TYPE_CHECKING:
    from loratools.train.config.config import TrainConfig

_KEY = "mask_folder"


@dataclass(frozen=True)
class StepMasks:
    """The folders of masks that steps make, by the place of the images in the list that they belong to.

    They need not be there when the step is planned, nor afterwards: ``prepare`` makes masks only where it finds text.
    """

    folders: Mapping[int, StepInput] = field(default_factory=dict)

    def options(self) -> dict[str, Any]:
        """What of them determines the result beside the steps; nothing without them, so that keys stay."""
        return {"step_masks": {str(index): mask.label for index, mask in self.folders.items()}} if self.folders else {}

    @property
    def inputs(self) -> tuple[StepInput, ...]:
        """The steps that make them."""
        return tuple(self.folders.values())

    def added_to(self, config: TrainConfig) -> TrainConfig:
        """The config with the folders of masks that are there now."""
        images = tuple(
            subset.model_copy(update={_KEY: mask.path})
            if (mask := self.folders.get(index)) is not None and mask.path.is_dir()
            else subset
            for index, subset in enumerate(config.images)
        )
        return config.model_copy(update={"images": images}) if self.folders else config


def masks_of_step(request: StepRequest, entry: Mapping[str, Any], *place: str | int) -> StepInput | None:
    """The folder of masks in an earlier step's result that an entry of ``images`` names; None if it names none.

    Raises:
        RecipeError: if the step makes no pictures, or the entry names the step alone.
    """
    text = str(entry.get(_KEY) or "")
    name, _, inside = text.partition("/")
    if name not in request.planner.recipe.steps or request.paths.find(text) is not None:
        return None
    source = request.input(name, *place, _KEY)
    if request.planner.step(name).step_kind.makes != "pictures" or not inside:
        message = f"'{text}' names no masks; write STEP/masks, with a prepare, tag, edit_tags or balance step"
        raise request.error(*place, _KEY, message=message)
    return StepInput(text, Path(source.path) / inside, source.digest, source.step)
