"""``merge_into``: a merge added to a checkpoint's weights, every other byte of it as it was."""

from __future__ import annotations

from pathlib import Path

from loratools.errors import LoratoolsError
from loratools.recipe.plan.context import RunContext
from loratools.recipe.plan.lora_refs import Terms, check_model, model_family, read_terms
from loratools.recipe.plan.paths import digest_of
from loratools.recipe.plan.planner import Planner
from loratools.recipe.plan.step import Draft, Outcome, StepInput
from loratools.recipe.schema.lora_steps import MergeInto
from loratools.recipe.schema.recipe import Step
from loratools.recipe.steps.lora.common import file_out, open_terms, with_base

REVISION = 1
default_out = file_out


def draft(name: str, step: Step, planner: Planner) -> Draft:
    """Read the merge string and find the checkpoint."""
    settings = step.options(MergeInto)
    presets = planner.paths.presets(settings.presets, name)
    terms = read_terms(settings.terms, name, planner, presets, "merge_into", "terms")
    into = _checkpoint(settings, name, planner)
    told = f"'{settings.into}'", model_family(into.path), "name a checkpoint of its family"
    check_model(terms, *told, planner, name, "merge_into", "terms")
    options = {"terms": terms.options(presets), "missing": settings.missing, "match_norm": settings.match_norm}
    return Draft(
        options,
        with_base((*terms.inputs, into), settings.dora, planner),
        lambda out, context: _make(out, context, settings, terms, into.path, name, planner),
    )


def _checkpoint(settings: MergeInto, name: str, planner: Planner) -> StepInput:
    from loratools.adapter.files.checkpoint import open_checkpoint

    if settings.into in planner.recipe.steps:
        source = planner.input(settings.into, name, "merge_into", "into")
        kind = planner.step(settings.into).kind
        if kind != "merge_into":
            message = f"the step '{settings.into}' is a {kind}, which is no checkpoint; name a merge_into step"
            raise planner.error(name, "merge_into", "into", message=message)
        return source
    path = planner.paths.base_path() if settings.into == "base" else planner.paths.find(settings.into)
    if path is None:
        return planner.input(settings.into, name, "merge_into", "into")  # says what there is
    if settings.into == "base" and path.is_dir():
        path = path / "unet" / "diffusion_pytorch_model.safetensors"  # what a Diffusers base has of a checkpoint
    if not path.is_file() or path.suffix.lower() != ".safetensors":
        what = "the recipe's base" if settings.into == "base" else f"'{settings.into}'"
        message = (
            f"{what} is no single .safetensors checkpoint, and one is needed; of a Diffusers folder name the "
            "UNet's own file"
        )
        raise planner.error(name, "merge_into", "into", message=message)
    try:
        open_checkpoint(path)
    except LoratoolsError as error:
        raise planner.error(name, "merge_into", "into", message=str(error)) from error
    return StepInput(settings.into, path, digest_of(path))


def _make(
    out: Path, context: RunContext, settings: MergeInto, terms: Terms, into: Path, name: str, planner: Planner
) -> Outcome:
    from loratools.ops.merging.combine import combine
    from loratools.ops.merging.merge import into_provenance
    from loratools.ops.merging.merge_into import merge_into
    from loratools.ops.merging.norms import match_norms

    found = open_terms(
        terms,
        planner,
        presets=settings.presets,
        missing=settings.missing,
        dora=settings.dora,
        allow_unknown=settings.allow_unknown,
    )
    found = match_norms(found) if settings.match_norm else found
    made = into_provenance(found, into, planner.owner(name))
    report = merge_into(combine(found), into, out, provenance=made, force=context.force)
    text = f"{report.modules} modules changed, {report.size / 2**20:.1f} MiB, rounding {report.total.relative:.1e}"
    return Outcome(text, report.json())
