"""``extract``: a LoRA of what tuning did to a model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from loratools.errors import LoratoolsError
from loratools.recipe.plan.context import RunContext
from loratools.recipe.plan.paths import model_family
from loratools.recipe.plan.planner import StepRequest
from loratools.recipe.plan.step import Draft, Outcome, StepInput
from loratools.recipe.schema.kinds import StepKind
from loratools.recipe.steps.lora.common import StoredOptions, outcome_of, rank_text


class Extract(StoredOptions):
    """A LoRA of what tuning did to a model."""

    shorthand: ClassVar[str] = "tuned"
    tuned: str = Field(description="the model after tuning: a file, a folder, or a merge_into step")
    base: str | None = Field(None, description="the model before it; the recipe's base if left out")
    conv: bool = Field(False, description="convolutions and the network's other layers too")
    norms: bool = Field(False, description="normalisations too, as full differences")
    biases: bool = Field(False, description="biases of layers too, as full differences")
    seed: Annotated[int, Field(ge=0)] = Field(0, description="of the random projections")


KIND = StepKind("extract", Extract, "lora")


def draft(request: StepRequest) -> Draft:
    """Find both models."""
    options = request.options(Extract)
    tuned = _model(options.tuned, request, "tuned")
    base = _model(options.base, request, "base") if options.base else request.paths.base_input()
    resolved = {
        "rank": rank_text(options.rank, request),
        "dtype": options.dtype,
        "conv": options.conv,
        "seed": options.seed,
        **{key: True for key in ("norms", "biases") if getattr(options, key)},  # absent, so that old keys stay
    }
    base_path = base.path if options.base else request.paths.base_path()
    families = model_family(base_path), model_family(tuned.path)
    if None not in families and families[0] != families[1]:
        message = f"'{options.tuned}' is a model of {families[1]} and the base of {families[0]}; both must be of one"
        raise request.error("tuned", message=message)
    return Draft(
        resolved,
        (base, tuned),
        ExtractStep(request, options, base_path, tuned.path).make,
        family=request.paths.base_family if options.base is None else None,
    )


def _model(text: str, request: StepRequest, key: str) -> StepInput:
    """The model that option ``key`` names: a step that makes one, ``pocket``, a file or a folder."""
    from loratools.adapter.files.checkpoint import open_checkpoint
    from loratools.base.base_path import POCKET, base_digest, base_path

    if text in request.planner.recipe.steps:
        planned = request.planner.step(text)
        if planned.step_kind.makes != "checkpoint":
            message = (
                f"the step '{text}' is a {planned.kind}, which makes no model; name a merge_into step, a file or a "
                "folder"
            )
            raise request.error(key, message=message)
        return request.input(text, key)
    if text == POCKET:
        return StepInput(text, base_path(text), base_digest(text))
    path = request.paths.find(text)
    if path is None:
        return request.input(text, key)  # its error names what there is
    try:
        open_checkpoint(path)  # a LoRA is no model
        return StepInput(text, path, base_digest(path))
    except LoratoolsError as error:
        raise request.error(key, message=str(error)) from error


@dataclass(frozen=True)
class ExtractStep:
    """An extraction whose two models are known."""

    request: StepRequest
    options: Extract
    base: Path
    tuned: Path

    def make(self, out: Path, context: RunContext) -> Outcome:
        """Write the LoRA ``out``."""
        from loratools.adapter.algebra.rank import parse_rank
        from loratools.dtypes import torch_dtype
        from loratools.ops.extract import extract_files
        from loratools.ops.extract_parts import Take

        options = self.options
        report = extract_files(
            self.base,
            self.tuned,
            out,
            rule=parse_rank(options.rank),
            take=Take(options.conv, options.norms, options.biases),
            dtype=torch_dtype(options.dtype),
            seed=options.seed,
            force=context.force,
            owner=self.request.owner,
            recipe=context.recipe(),
        )
        return outcome_of(report)
