"""``fix``: a merge step again, its block vectors moved by the rules for what is wrong with the pictures.

``loratools blocks fix`` edits the numbers in the recipe; this step leaves them as they are and makes a second file, so
that a grid can show both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from loratools.blocks.symptoms import ROLES
from loratools.errors import BlockError, LoratoolsError
from loratools.recipe.plan.lora_refs import Terms
from loratools.recipe.plan.planner import StepRequest
from loratools.recipe.plan.step import Draft
from loratools.recipe.schema.fields import Above, Count, Texts
from loratools.recipe.schema.kinds import StepKind
from loratools.recipe.steps.lora.common import StoredOptions
from loratools.recipe.steps.lora.merge import MergeStep, merge_step

if TYPE_CHECKING:
    from loratools.blocks.symptoms import CombinedSteps
    from loratools.blocks.vector import Presets
    from loratools.ops.merging.merge_string import TermSpec


class Fix(StoredOptions):
    """A merge step again, its block vectors moved by the rules for what is wrong with the pictures."""

    shorthand: ClassVar[str] = "merge"
    merge: str = Field(description="the merge step that is meant")
    symptoms: Texts = Field(("hands",), description="hands, limbs, face, clothes, style or chaos; one or several")
    step: Above = Field(0.1, description="size of one step, absolute")
    times: Count = Field(1, description="how many steps of each rule")


KIND = StepKind("fix", Fix, "lora")


def draft(request: StepRequest) -> Draft:
    """Move the vectors and put them in by value."""
    options, steps = request.options(Fix), request.planner.recipe.steps
    if options.merge not in steps or steps[options.merge].kind != "merge":
        merges = ", ".join(name for name, step in steps.items() if step.kind == "merge") or "none"
        raise request.error("merge", message=f"'{options.merge}' is no merge step; this recipe's merge steps: {merges}")
    merge = merge_step(StepRequest(options.merge, request.planner))
    try:
        specs = moved(merge.terms, options, merge.presets)
    except LoratoolsError as error:
        raise request.error(message=str(error)) from error
    own = options.model_dump(include={"rank", "dtype"}, exclude_unset=True)
    fixed = MergeStep(request, merge.options.model_copy(update=own), replace(merge.terms, specs=specs), merge.presets)
    return fixed.draft()


def moved(terms: Terms, options: Fix, presets: Presets) -> tuple[TermSpec, ...]:
    """The terms with the vectors of the first positive and the first negative one moved; no weight goes below 0.

    Raises:
        BlockError: for an unknown symptom, a term without a vector, or a vector without the block that is meant.
    """
    from loratools.blocks.symptoms import combine_steps, find_symptom

    chosen = [find_symptom(symptom) for symptom in options.symptoms]
    specs = list(terms.specs)
    for index in range(options.times):
        steps = [(symptom, step) for symptom in chosen if (step := symptom.step_at(index)) is not None]
        combined = combine_steps(steps)
        for role, sign in ROLES.items():
            number = next((at for at, spec in enumerate(specs) if spec.weight * sign > 0), None)
            if number is not None:
                specs[number] = _moved(specs[number], role, combined, options.step, presets, terms.family or "sd1")
        specs = [replace(spec, weight=round(spec.weight * combined.strength, 10)) for spec in specs]
    return tuple(specs)


def _moved(spec: TermSpec, role: str, combined: CombinedSteps, size: float, presets: Presets, family: str) -> TermSpec:
    from loratools.blocks.parse import parse_vector

    moves: Mapping[str, int] = {block: by for (who, block), by in combined.moves.items() if who == role}
    if not moves:
        return spec
    if spec.vector_text is None:
        raise BlockError(f"{spec.ref} has no block vector to move; give it one, such as {spec.ref}:{spec.weight:g}:ALL")
    vector = parse_vector(spec.vector_text, presets, family)
    return replace(spec, vector_text=vector.moved({block: size * by for block, by in moves.items()}).text())
