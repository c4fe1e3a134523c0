"""What the steps of the data room read: a folder of pictures, or the step that makes one."""

from __future__ import annotations

from loratools.recipe.plan.planner import StepRequest
from loratools.recipe.plan.step import StepInput


def pictures_input(request: StepRequest, label: str, *place: str) -> StepInput:
    """The folder of pictures, or the step, that ``label`` names.

    Raises:
        RecipeError: at ``place`` in the step's options, if it is neither, or holds no pictures.
    """
    from loratools.dataset.walk import pictures_below

    source = request.input(label, *place)
    if source.step is not None:
        planned = request.planner.step(source.step)
        if planned.step_kind.makes != "pictures":
            message = (
                f"the step '{label}' is a {planned.kind}, which makes no pictures; name a folder, or a draw, prepare, "
                "tag, edit_tags or balance step"
            )
            raise request.error(*place, message=message)
    elif not source.path.is_dir():
        raise request.error(*place, message=f"'{label}' is a file; name the folder that the pictures lie in")
    elif not pictures_below(source.path):
        raise request.error(*place, message=f"'{label}' holds no pictures; put some there, or name another folder")
    return source


def units_of(request: StepRequest, source: StepInput) -> float | None:
    """About how many pictures a source has."""
    from loratools.dataset.walk import pictures_below

    if source.step is not None:
        return request.planner.step(source.step).draft.units
    return len(pictures_below(source.path))
