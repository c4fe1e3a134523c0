"""What a grid step scores its pictures by: folders of images, which `draw` steps may make, and models on disk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from loratools.errors import LoratoolsError
from loratools.recipe.plan.paths import digest_of
from loratools.recipe.plan.planner import StepRequest
from loratools.recipe.plan.step import StepInput
from loratools.recipe.steps.pictures.grid_options import Grid

if TYPE_CHECKING:
    from loratools.preview.request.options import ScoreRequest


def compared_with(settings: Grid, step: StepRequest) -> list[tuple[str, StepInput]]:
    """What the pictures of a grid step are compared with: (option, source).

    Raises:
        RecipeError: at the option, for a folder without images, a model that cannot be used, or a step that makes none.
    """
    folders = [
        (key, _images(str(getattr(settings, key)), step, key))
        for key in ("score_images", "held_out")
        if getattr(settings, key) is not None
    ]
    return [
        *folders,
        *(("score_models", _model(text, step, number)) for number, text in enumerate(settings.score_models)),
    ]


def score_request(compared: Sequence[tuple[str, StepInput]]) -> ScoreRequest:
    """The folders of :func:`compared_with`; the steps that the grid needs must have run."""
    from loratools.preview.request.options import ScoreRequest

    images = {key: source.path for key, source in compared}
    models = tuple(source.path for key, source in compared if key == "score_models")
    return ScoreRequest(images.get("score_images"), images.get("held_out"), models)


def _images(text: str, step: StepRequest, key: str) -> StepInput:
    from loratools.preview.judge.score_request import check_images

    source = step.input(text, key)
    if source.step is not None:
        planned = step.planner.step(source.step)
        if planned.step_kind.makes != "pictures":
            message = f"the step '{text}' is a {planned.kind}, which makes no images; name a folder or a `draw` step"
            raise step.error(key, message=message)
        return source
    try:
        check_images(source.path)
    except LoratoolsError as error:
        raise step.error(key, message=str(error)) from error
    return source


def _model(text: str, step: StepRequest, number: int) -> StepInput:
    from loratools.preview.judge.score_request import check_model

    path = step.paths.find(text)
    if path is None:
        message = f"there is no folder '{text}' beside the recipe or in the current folder; models are not downloaded"
        raise step.error("score_models", number, message=message)
    try:
        check_model(path)
    except LoratoolsError as error:
        raise step.error("score_models", number, message=str(error)) from error
    return StepInput(text, path, digest_of(path))
