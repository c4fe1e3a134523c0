"""Steps that lead nowhere: pictures drawn beside a training that does not read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from loratools.yamlio import Document

if TYPE_CHECKING:
    from loratools.recipe.plan.planner import Planned


def check_reach(steps: Sequence[Planned], document: Document) -> None:
    """Raise RecipeError for a `draw` step of a whole recipe that none of its trainings reads.

    Every other step's result is something to look at or to hand out; where nothing is trained, drawings are too. An
    included file's steps may be more than this recipe needs.

    Raises:
        RecipeError: at the step.
    """
    read = {name for step in steps for name in step.needs}
    trained = any(step.kind == "train" for step in steps)
    for step in steps:
        included = document.span(("steps", step.name)).source is not None
        if trained and step.kind == "draw" and step.name not in read and not included:
            told = f"nothing reads the pictures of '{step.name}'; name it at a train step's `images`, or drop it"
            raise document.error(("steps", step.name), told, step.name)
