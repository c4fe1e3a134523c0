"""``resize``: a LoRA of another rank, the loss stated."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from loratools.recipe.plan.context import RunContext
from loratools.recipe.plan.lora_refs import Terms, one_file, read_one
from loratools.recipe.plan.planner import StepRequest
from loratools.recipe.plan.step import Draft, Outcome
from loratools.recipe.schema.kinds import StepKind
from loratools.recipe.steps.lora.common import StoredOptions, base_weights, outcome_of, rank_text, with_base


class Resize(StoredOptions):
    """Another rank, the loss stated for each block."""

    shorthand: ClassVar[str] = "lora"
    lora: str = Field(description="a step, an epoch `run@8`, or a file")
    dora: bool = Field(False, description="read a DoRA file with the weights of the recipe's base")


KIND = StepKind("resize", Resize, "lora")


def draft(request: StepRequest) -> Draft:
    """Find the LoRA and read the rule."""
    options = request.options(Resize)
    terms = read_one(options.lora, request, "lora")
    return Draft(
        {"rank": rank_text(options.rank, request), "dtype": options.dtype},
        with_base(terms.inputs, options.dora, request.paths),
        ResizeStep(request, options, terms).make,
        family=terms.family,
    )


@dataclass(frozen=True)
class ResizeStep:
    """A resize whose file is known."""

    request: StepRequest
    options: Resize
    terms: Terms

    def make(self, out: Path, context: RunContext) -> Outcome:
        """Write the LoRA ``out``."""
        from loratools.adapter.algebra.rank import parse_rank
        from loratools.adapter.files.file import read
        from loratools.dtypes import torch_dtype
        from loratools.ops.resize import resize_file

        base = base_weights(self.request.paths) if self.options.dora else None
        report = resize_file(
            read(one_file(self.terms), base),
            out,
            rule=parse_rank(self.options.rank),
            dtype=torch_dtype(self.options.dtype),
            force=context.force,
            owner=self.request.owner,
            recipe=context.recipe(),
        )
        return outcome_of(report.stored, report.json())
