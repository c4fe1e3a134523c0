"""``convert``: the same differences in another style of keys."""

from __future__ import annotations

import shutil
from pathlib import Path

from loratools.errors import FileError
from loratools.files import replacing
from loratools.recipe.plan.context import RunContext
from loratools.recipe.plan.lora_refs import Terms, one_file, read_one
from loratools.recipe.plan.planner import Planner
from loratools.recipe.plan.step import Draft, Outcome
from loratools.recipe.schema.lora_steps import Convert
from loratools.recipe.schema.recipe import Step
from loratools.recipe.steps.lora.common import base_weights, file_out, with_base

REVISION = 1
default_out = file_out


def draft(name: str, step: Step, planner: Planner) -> Draft:
    """Find the LoRA."""
    settings = step.options(Convert)
    terms = read_one(settings.lora, name, planner, "convert", "lora")
    options = settings.model_dump(include={"to", "dtype", "allow_unknown"})
    return Draft(
        options,
        with_base(terms.inputs, settings.dora, planner),
        lambda out, context: _make(out, context, settings, terms, planner),
        family=terms.family,
    )


def _make(out: Path, context: RunContext, settings: Convert, terms: Terms, planner: Planner) -> Outcome:
    from loratools.ops.convert import convert

    if out.exists() and not context.force:
        raise FileError(f"{out} exists and was not written by this step; give it another `out`, or use --force")
    fresh = out.with_name(f".{out.name}.new.safetensors")
    base = base_weights(planner) if settings.dora else None
    try:
        made = convert(
            one_file(terms),
            fresh,
            style=settings.to,
            dtype=settings.dtype,
            base=base,
            allow_unknown=settings.allow_unknown,
            force=True,
        )
        with replacing(out) as part:
            shutil.copyfile(fresh, part)
    finally:
        fresh.unlink(missing_ok=True)
    text = f"{made.style} keys, {made.modules} modules, {made.dtype}, error {made.error:.1e}"
    return Outcome(text, {**made.json(), "path": str(out)})
