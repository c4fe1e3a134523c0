"""``merge_into``: a merge added to a checkpoint's weights, every other byte of it as it was."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from loratools.errors import LoratoolsError
from loratools.recipe.plan.context import RunContext
from loratools.recipe.plan.lora_refs import TargetModel, Terms, check_target, read_terms
from loratools.recipe.plan.paths import digest_of, model_family
from loratools.recipe.plan.planner import StepRequest
from loratools.recipe.plan.step import Draft, Outcome, StepInput
from loratools.recipe.schema.fields import Missing, Strict
from loratools.recipe.schema.kinds import StepKind
from loratools.recipe.steps.lora.common import open_terms, with_base

if TYPE_CHECKING:
    from loratools.blocks.vector import Presets


class MergeInto(Strict):
    """A merge added to a checkpoint's weights."""

    terms: str = Field(description="the merge string")
    into: str = Field(
        description="the checkpoint or Diffusers folder that it is added to, or pocket; `base` is the recipe's (its "
        "UNet)"
    )
    missing: Missing | None = Field(
        None, description="weight of the modules in blocks that a short vector does not list"
    )
    presets: str | None = Field(None, description="a file of more named vectors")
    match_norm: bool = Field(False, description="bring the LoRAs to equal norm in each block before the weights")
    dora: bool = Field(False, description="read DoRA files with the weights of the recipe's base")
    allow_unknown: bool = Field(False, description="leave out keys that no table knows instead of refusing their file")


KIND = StepKind("merge_into", MergeInto, "checkpoint")


def draft(request: StepRequest) -> Draft:
    """Read the merge string and find the checkpoint."""
    options = request.options(MergeInto)
    presets = request.presets(options.presets)
    terms = read_terms(options.terms, request, presets, "terms")
    into = _checkpoint(options.into, request)
    target = TargetModel(f"'{options.into}'", model_family(into.path), "name a checkpoint of its family")
    check_target(terms, target, request, "terms")
    resolved = {"terms": terms.options(presets), "missing": options.missing, "match_norm": options.match_norm}
    return Draft(
        resolved,
        with_base((*terms.inputs, into), options.dora, request.paths),
        MergeIntoStep(request, options, terms, presets, into.path).make,
    )


def _checkpoint(into: str, request: StepRequest) -> StepInput:
    """The checkpoint that the option ``into`` names: a step that makes one, ``base``, or a file."""
    from loratools.adapter.files.checkpoint import open_checkpoint
    from loratools.base.base_path import POCKET, base_digest, base_path

    if into in request.planner.recipe.steps:
        planned = request.planner.step(into)
        if planned.step_kind.makes != "checkpoint":
            message = f"the step '{into}' is a {planned.kind}, which is no checkpoint; name a merge_into step"
            raise request.error("into", message=message)
        return request.input(into, "into")
    if into == POCKET:
        path: Path | None = base_path(into)
    else:
        path = request.paths.base_path() if into == "base" else request.paths.find(into)
    if path is None:
        return request.input(into, "into")  # its error names what there is
    if into == "base" and path.is_dir():
        path = path / "unet" / "diffusion_pytorch_model.safetensors"  # what a Diffusers base has of a checkpoint
    if into != "base" and (path / "model_index.json").is_file():
        return StepInput(into, path, base_digest(path))  # all of it, as one file
    if not path.is_file() or path.suffix.lower() != ".safetensors":
        what = "the recipe's base" if into == "base" else f"'{into}'"
        message = (
            f"{what} is no single .safetensors checkpoint, and one is needed; of a Diffusers folder name the "
            "UNet's own file"
        )
        raise request.error("into", message=message)
    try:
        open_checkpoint(path)
    except LoratoolsError as error:
        raise request.error("into", message=str(error)) from error
    return StepInput(into, path, digest_of(path))


@dataclass(frozen=True)
class MergeIntoStep:
    """A merge into the checkpoint ``into``, whose terms are found."""

    request: StepRequest
    options: MergeInto
    terms: Terms
    presets: Presets
    into: Path

    def make(self, out: Path, context: RunContext) -> Outcome:
        """Write the checkpoint ``out``."""
        from loratools.ops.merging.combine import combine
        from loratools.ops.merging.merge import into_provenance
        from loratools.ops.merging.merge_into import merge_into
        from loratools.ops.merging.norms import match_norms

        terms = open_terms(self.terms, self.options, self.presets, self.request.paths)
        terms = match_norms(terms) if self.options.match_norm else terms
        provenance = into_provenance(terms, self.into, self.request.owner)
        report = merge_into(combine(terms), self.into, out, provenance=provenance, force=context.force)
        text = f"{report.modules} modules changed, {report.size / 2**20:.1f} MiB, rounding {report.total.relative:.1e}"
        return Outcome(text, report.json())
