"""``fix``: a merge step again, its block vectors moved by the rules for what is wrong with the pictures.

``loratools blocks fix`` edits the numbers in the recipe; this step leaves them as they are and makes a second file, so
that a grid can show both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from loratools.errors import BlockError, LoratoolsError
from loratools.recipe.edit.locate import ROLES
from loratools.recipe.plan.lora_refs import Terms, read_terms
from loratools.recipe.plan.planner import Planner
from loratools.recipe.plan.step import Draft
from loratools.recipe.schema.lora_steps import Fix
from loratools.recipe.schema.recipe import Step
from loratools.recipe.steps.lora.common import file_out, rank_text, with_base
from loratools.recipe.steps.lora.merge import merge_options, write_merge

if TYPE_CHECKING:
    from loratools.blocks.symptoms import Together
    from loratools.blocks.vector import Presets
    from loratools.ops.merging.merge_string import TermSpec

REVISION = 1
default_out = file_out


def draft(name: str, step: Step, planner: Planner) -> Draft:
    """Move the vectors and put them in by value."""
    settings = step.options(Fix)
    target = planner.recipe.steps.get(settings.merge)
    if target is None or target.merge is None:
        merges = ", ".join(key for key, one in planner.recipe.steps.items() if one.merge is not None) or "none"
        message = f"'{settings.merge}' is no merge step; this recipe's merge steps: {merges}"
        raise planner.error(name, "fix", "merge", message=message)
    own = settings.model_dump(include={"rank", "dtype"}, exclude_unset=True)
    merge = target.merge.model_copy(update=own)
    presets = planner.paths.presets(merge.presets, settings.merge)
    terms = read_terms(merge.terms, settings.merge, planner, presets, "merge", "terms")
    try:
        specs = moved(terms, settings, presets)
    except LoratoolsError as error:
        raise planner.error(name, "fix", message=str(error)) from error
    terms = replace(terms, specs=specs)
    options = {
        "terms": terms.options(presets),
        **merge_options(merge),
        "rank": rank_text(merge.rank, name, "fix", planner),
    }
    return Draft(
        options,
        with_base(terms.inputs, merge.dora, planner),
        lambda out, context: write_merge(out, context, merge, terms, name, planner),
        family=terms.family,
    )


def moved(terms: Terms, settings: Fix, presets: Presets) -> tuple[TermSpec, ...]:
    """The terms with the vectors of the first positive and the first negative one moved; no weight goes below 0.

    Raises:
        BlockError: for an unknown symptom, a term without a vector, or a vector without the block that is meant.
    """
    from loratools.blocks.symptoms import find_symptom, together

    chosen = [find_symptom(symptom) for symptom in settings.symptoms]
    specs = list(terms.specs)
    for index in range(settings.times):
        steps = [(symptom, found) for symptom in chosen if (found := symptom.step_at(index)) is not None]
        plan = together(steps)
        for role, sign in ROLES.items():
            place = next((at for at, spec in enumerate(specs) if spec.weight * sign > 0), None)
            if place is not None:
                specs[place] = _moved(specs[place], role, plan, settings.step, presets, terms.family or "sd1")
        specs = [replace(spec, weight=round(spec.weight * plan.strength, 10)) for spec in specs]
    return tuple(specs)


def _moved(spec: TermSpec, role: str, plan: Together, size: float, presets: Presets, family: str) -> TermSpec:
    from loratools.blocks.parse import parse_vector

    moves: Mapping[str, int] = {block: by for (who, block), by in plan.moves.items() if who == role}
    if not moves:
        return spec
    if spec.vector_text is None:
        raise BlockError(f"{spec.ref} has no block vector to move; give it one, such as {spec.ref}:{spec.weight:g}:ALL")
    vector = parse_vector(spec.vector_text, presets, family)
    weights = {block: max(0.0, round(vector.weight(block) + size * by, 10)) for block, by in moves.items()}
    return replace(spec, vector_text=vector.replaced(weights).text())
