"""``subtract``: a style with the base's own style removed, in one of four ways."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from loratools.errors import LoratoolsError
from loratools.recipe.plan.context import RunContext
from loratools.recipe.plan.lora_refs import Terms, read_terms, vector_values
from loratools.recipe.plan.planner import StepRequest
from loratools.recipe.plan.step import Draft, Outcome
from loratools.recipe.schema.fields import Above, Fraction, NumberText
from loratools.recipe.schema.kinds import StepKind
from loratools.recipe.steps.lora.common import TermOptions, open_terms, outcome_of, rank_text, with_base

if TYPE_CHECKING:
    from loratools.blocks.vector import Presets
    from loratools.ops.style_removal import SubtractMethod


class Subtract(TermOptions):
    """A style with the base's own style removed, in one of four ways."""

    shorthand: ClassVar[str] = "style"
    style: str = Field(description="a merge string: what to keep")
    base_style: str = Field(description="a merge string: what to remove")
    mode: Literal["direct", "matched", "project", "soft"] = Field(
        "direct", description="direct: all of it; matched: what lies along it; project: its directions; soft: in part"
    )
    blocks: NumberText | None = Field(
        None, description="how strongly in each block: a preset, numbers (text or a list) or names"
    )
    energy: Fraction = Field(0.99, description="project, soft: the part of its energy that its directions must hold")
    side: Literal["output", "input", "both"] = Field("output", description="project, soft: which side is freed")
    mu: Above = Field(1.0, description="soft: what its directions keep is 1 / (1 + mu)")
    most: Annotated[float, Field(ge=0)] | None = Field(None, description="matched: the largest multiple removed")

    @model_validator(mode="after")
    def _of_its_mode(self) -> Subtract:
        modes = {"energy": "project soft", "side": "project soft", "mu": "soft", "most": "matched"}
        for key, fit in modes.items():
            if key in self.model_fields_set and self.mode not in fit.split():
                raise ValueError(f"'{key}' goes with mode: {fit.replace(' ', ' or ')}; this one is {self.mode}")
        return self


KIND = StepKind("subtract", Subtract, "lora")


def draft(request: StepRequest) -> Draft:
    """Read both merge strings and the block weights."""
    from loratools.blocks.parse import parse_vector

    options = request.options(Subtract)
    presets = request.presets(options.presets)
    style = read_terms(options.style, request, presets, "style")
    base_style = read_terms(options.base_style, request, presets, "base_style")
    if style.family and base_style.family and style.family != base_style.family:
        message = (
            f"'{options.base_style}' is for {base_style.family} and the style for {style.family}; both must be of one"
        )
        raise request.error("base_style", message=message)
    family = style.family or base_style.family
    if options.blocks is not None:
        try:
            parse_vector(options.blocks, presets, family)
        except LoratoolsError as error:
            raise request.error("blocks", message=str(error)) from error
    resolved: dict[str, Any] = {
        **options.model_dump(include={"mode", "energy", "side", "mu", "most", "dtype", "missing"}),
        "rank": rank_text(options.rank, request),
        "style": style.options(presets),
        "base_style": base_style.options(presets),
        "blocks": None if options.blocks is None else vector_values(options.blocks, presets),
    }
    inputs = with_base((*style.inputs, *base_style.inputs), options.dora, request.paths)
    step = SubtractStep(request, options, style, base_style, presets)
    return Draft(resolved, inputs, step.make, family=family)


@dataclass(frozen=True)
class SubtractStep:
    """A subtraction whose terms are found."""

    request: StepRequest
    options: Subtract
    style: Terms
    base_style: Terms
    presets: Presets

    def make(self, out: Path, context: RunContext) -> Outcome:
        """Write the LoRA ``out``."""
        from loratools.adapter.algebra.rank import parse_rank
        from loratools.blocks.parse import parse_vector
        from loratools.dtypes import torch_dtype
        from loratools.ops.subtract import subtract_files

        options = self.options
        style, base_style = (
            open_terms(terms, options, self.presets, self.request.paths) for terms in (self.style, self.base_style)
        )
        changed = base_style[0].adapter
        blocks = parse_vector(options.blocks, self.presets, changed.family, changed) if options.blocks else None
        report = subtract_files(
            style,
            base_style,
            out,
            method=self._method(),
            vector=blocks,
            missing=options.missing,
            rule=parse_rank(options.rank),
            dtype=torch_dtype(options.dtype),
            force=context.force,
            owner=self.request.owner,
            recipe=context.recipe(),
        )
        outcome = outcome_of(report.written, report.json())
        return Outcome(f"{outcome.summary}, {100 * report.total.removed:.1f} % removed", outcome.facts)

    def _method(self) -> SubtractMethod:
        from loratools.ops.style_removal import SubtractMethod

        options = self.options
        most = math.inf if options.most is None else options.most
        return SubtractMethod(options.mode, options.energy, options.side, options.mu, most)
