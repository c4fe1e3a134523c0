"""What a grid step scores its pictures by: folders of images, which `draw` steps may make, and models on disk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from loratools.errors import LoratoolsError
from loratools.recipe.plan.paths import digest_of
from loratools.recipe.plan.planner import Planner
from loratools.recipe.plan.step import StepInput
from loratools.recipe.schema.picture_steps import Grid

if TYPE_CHECKING:
    from loratools.preview.request.options import ScoreRequest


def compared_with(settings: Grid, name: str, planner: Planner) -> list[tuple[str, StepInput]]:
    """What the pictures of the grid step ``name`` are compared with: (option, source).

    Raises:
        RecipeError: at the option, for a folder without images, a model that cannot be used, or a step that makes none.
    """
    found = [
        (key, _images(str(getattr(settings, key)), name, key, planner))
        for key in ("score_images", "held_out")
        if getattr(settings, key) is not None
    ]
    return [
        *found,
        *(("score_models", _model(text, name, number, planner)) for number, text in enumerate(settings.score_models)),
    ]


def score_request(compared: Sequence[tuple[str, StepInput]]) -> ScoreRequest:
    """What :func:`compared_with` found, as folders; the steps that the grid needs must have run."""
    from loratools.preview.request.options import ScoreRequest

    images = {key: source.path for key, source in compared}
    models = tuple(source.path for key, source in compared if key == "score_models")
    return ScoreRequest(images.get("score_images"), images.get("held_out"), models)


def _images(text: str, name: str, key: str, planner: Planner) -> StepInput:
    from loratools.preview.judge.score_request import check_images

    found = planner.input(text, name, "grid", key)
    if found.step is not None:
        kind = planner.step(found.step).kind
        if kind != "draw":
            message = f"the step '{text}' is a {kind}, which makes no images; name a folder or a `draw` step"
            raise planner.error(name, "grid", key, message=message)
        return found
    try:
        check_images(found.path)
    except LoratoolsError as error:
        raise planner.error(name, "grid", key, message=str(error)) from error
    return found


def _model(text: str, name: str, number: int, planner: Planner) -> StepInput:
    from loratools.preview.judge.score_request import check_model

    path = planner.paths.find(text)
    if path is None:
        message = f"there is no folder '{text}' beside the recipe or in the current folder; models are not downloaded"
        raise planner.error(name, "grid", "score_models", number, message=message)
    try:
        check_model(path)
    except LoratoolsError as error:
        raise planner.error(name, "grid", "score_models", number, message=str(error)) from error
    return StepInput(text, path, digest_of(path))
