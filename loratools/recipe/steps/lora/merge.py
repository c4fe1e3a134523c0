"""``merge``: the exact weighted sum of earlier steps and LoRA files, or another method's by name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from loratools.blocks.tokens import is_number
from loratools.errors import MergeStringError, OptionError
from loratools.ops.merging.methods.declared import PARAMETERS, MethodName, find_method
from loratools.recipe.plan.context import RunContext
from loratools.recipe.plan.lora_refs import Terms, read_terms
from loratools.recipe.plan.planner import Planner, StepRequest
from loratools.recipe.plan.step import Draft, Outcome
from loratools.recipe.schema.fields import Fraction, Part, Seed
from loratools.recipe.schema.kinds import StepKind
from loratools.recipe.steps.lora.common import TermOptions, open_terms, outcome_of, rank_text, with_base

if TYPE_CHECKING:
    from loratools.blocks.vector import Presets
    from loratools.ops.merging.merge import MergePlan
    from loratools.ops.merging.method import MergeMethod
    from loratools.ops.merging.terms import Term


class Merge(TermOptions):
    """The exact weighted sum of LoRA files or earlier steps."""

    shorthand: ClassVar[str] = "terms"
    terms: str = Field(description="the merge string, such as `style@8:1:GP1, base_style:-1:GP2`")
    method: MethodName = Field(
        "exact",
        description="exact: the weighted sum; ties, dare, breadcrumbs, slerp, karcher, knots, iso-c or tsv-m: "
        "[another](adapters.md#merge-methods)",
    )
    density: Fraction | None = Field(
        None, description="ties, knots (0.5), dare, breadcrumbs (0.9): the part of the entries that is kept"
    )
    gamma: Part | None = Field(None, description="breadcrumbs: the part that is dropped as the largest (0.001)")
    seed: Seed | None = Field(None, description="dare: of the random draw (0)")
    floor: Part | None = Field(
        None, description="iso-c: singular values under this part of the largest are left out (0.001)"
    )
    keep: Fraction | None = Field(None, description="tsv-m: the part of each LoRA's directions that takes part (1)")
    match_norm: bool = Field(False, description="bring the LoRAs to equal norm in each block before the weights")
    compat: Literal["supermerger", "supermerger-strength", "lbw"] | None = Field(
        None, description="what another tool would make of the terms"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Merge:
        try:
            find_method(self.method).settings(self.numbers)
        except OptionError as error:
            raise ValueError(str(error)) from error
        if self.compat and (self.method != "exact" or self.match_norm):
            raise ValueError("'compat' reproduces another tool as it is; drop 'method' and 'match_norm'")
        return self

    @property
    def numbers(self) -> dict[str, Any]:
        """The parameters of methods by name; None where one is not given."""
        return {name: getattr(self, name) for name in PARAMETERS}


KIND = StepKind("merge", Merge, "lora")


def draft(request: StepRequest) -> Draft:
    """Read the merge string, find its files, and put block vectors in by value."""
    return merge_step(request).draft()


@dataclass(frozen=True)
class MergeStep:
    """A merge whose terms are found, of a ``merge`` step or of one that is made in the same way (``soup``, ``fix``).

    Attributes:
        request: the step that is made; ``options`` and ``presets`` may be another's.
    """

    request: StepRequest
    options: Merge
    terms: Terms
    presets: Presets

    def draft(self) -> Draft:
        """The step, ready to be keyed.

        Raises:
            RecipeError: if the method cannot be made of that many LoRAs.
        """
        self._check_count()
        options = {
            "terms": self.terms.options(self.presets),
            "dtype": self.options.dtype,
            "missing": self.options.missing,
            **self.options.model_dump(include={"method", "match_norm", "compat", *PARAMETERS}, exclude_defaults=True),
            "rank": rank_text(self.options.rank, self.request),
        }
        if self.options.compat in ("supermerger", "supermerger-strength"):  # which reads written numbers otherwise
            options["written"] = [is_number((spec.vector_text or "").split(",")[0]) for spec in self.terms.specs]
        inputs = with_base(self.terms.inputs, self.options.dora, self.request.paths)
        return Draft(options, inputs, self.make, family=self.terms.family)

    def _check_count(self) -> None:
        if any("-" in (spec.epoch or "") for spec in self.terms.specs):
            return  # how many files a range of epochs is shows when the run is there
        try:
            find_method(self.options.method).check_count(len(self.terms.specs))
        except MergeStringError as error:
            raise self.request.error("terms", message=str(error)) from error

    def method(self) -> MergeMethod:
        """What is made of the terms."""
        from loratools.ops.merging.method import MergeMethod

        options = self.options
        return MergeMethod(options.method, match_norm=options.match_norm, compat=options.compat, **options.numbers)

    def opened(self) -> list[Term]:
        """The terms with their files opened, ready to be merged; the steps that they need must have run."""
        method = self.method()
        how = self.options.model_copy(update={"missing": method.missing(self.options.missing)})
        return method.prepared(open_terms(self.terms, how, self.presets, self.request.paths))

    def make(self, out: Path, context: RunContext) -> Outcome:
        """Write the merged LoRA ``out``."""
        from loratools.adapter.algebra.rank import parse_rank
        from loratools.dtypes import torch_dtype
        from loratools.ops.merging.merge import merge_files

        report = merge_files(
            self.opened(),
            out,
            rule=parse_rank(self.options.rank),
            dtype=torch_dtype(self.options.dtype),
            force=context.force,
            owner=self.request.owner,
            method=self.method(),
            recipe=context.recipe(),
        )
        return outcome_of(report)


def merge_step(request: StepRequest) -> MergeStep:
    """The ``merge`` step of ``request`` with its terms found.

    Raises:
        RecipeError: as for :func:`.lora_refs.read_terms`.
    """
    options = request.options(Merge)
    presets = request.presets(options.presets)
    return MergeStep(request, options, read_terms(options.terms, request, presets, "terms"), presets)


def merge_plan(name: str, planner: Planner) -> MergePlan:
    """What the merge step ``name`` would do, block by block; the steps that it needs must have run."""
    from loratools.ops.merging.merge import plan

    return plan(merge_terms(name, planner))


def merge_terms(name: str, planner: Planner) -> list[Term]:
    """The terms of the merge step ``name``, their files opened; the steps that it needs must have run."""
    return merge_step(StepRequest(name, planner)).opened()
