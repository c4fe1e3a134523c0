"""``convert``: the same differences in another style of keys."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from loratools.dtypes import Dtype
from loratools.recipe.plan.context import RunContext
from loratools.recipe.plan.lora_refs import Terms, one_file, read_one
from loratools.recipe.plan.planner import StepRequest
from loratools.recipe.plan.step import Draft, Outcome
from loratools.recipe.schema.fields import Short
from loratools.recipe.schema.kinds import StepKind
from loratools.recipe.steps.lora.common import base_weights, with_base


class Convert(Short):
    """The same differences in another style of keys."""

    shorthand: ClassVar[str] = "lora"
    lora: str = Field(description="a step, an epoch `run@8`, or a file")
    to: Literal["kohya", "diffusers", "comfy", "original"] = Field("kohya", description="how keys are spelled")
    dtype: Dtype | None = Field(None, description="storage type; the file's own if left out")
    dora: bool = Field(False, description="read a DoRA file with the weights of the recipe's base")
    allow_unknown: bool = Field(False, description="carry keys that no table knows through untouched")


KIND = StepKind("convert", Convert, "lora", revision=2)


def draft(request: StepRequest) -> Draft:
    """Find the LoRA."""
    options = request.options(Convert)
    terms = read_one(options.lora, request, "lora")
    return Draft(
        options.model_dump(include={"to", "dtype", "allow_unknown"}),
        with_base(terms.inputs, options.dora, request.paths),
        ConvertStep(request, options, terms).make,
        family=terms.family,
    )


@dataclass(frozen=True)
class ConvertStep:
    """A conversion whose file is known."""

    request: StepRequest
    options: Convert
    terms: Terms

    def make(self, out: Path, context: RunContext) -> Outcome:
        """Write the file ``out``."""
        from loratools.ops.convert import convert

        options = self.options
        converted = convert(
            one_file(self.terms),
            out,
            style=options.to,
            dtype=options.dtype,
            base=base_weights(self.request.paths) if options.dora else None,
            allow_unknown=options.allow_unknown,
            force=context.force,
            owner=self.request.owner,
            recipe=context.recipe(),
        )
        text = f"{converted.style} keys, {converted.modules} modules, {converted.dtype}, error {converted.error:.1e}"
        return Outcome(text, converted.json())
