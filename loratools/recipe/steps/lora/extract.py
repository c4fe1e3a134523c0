"""``extract``: a LoRA of what tuning did to a model."""

from __future__ import annotations

from pathlib import Path

from loratools.errors import LoratoolsError
from loratools.recipe.plan.context import RunContext
from loratools.recipe.plan.lora_refs import model_family
from loratools.recipe.plan.planner import Planner
from loratools.recipe.plan.step import Draft, Outcome, StepInput
from loratools.recipe.schema.lora_steps import Extract
from loratools.recipe.schema.recipe import Step
from loratools.recipe.steps.lora.common import file_out, rank_text, told

REVISION = 1
default_out = file_out


def draft(name: str, step: Step, planner: Planner) -> Draft:
    """Find both models."""
    settings = step.options(Extract)
    tuned = _model(settings.tuned, name, planner, "tuned")
    base = _model(settings.base, name, planner, "base") if settings.base else planner.paths.base_input()
    options = {
        "rank": rank_text(settings.rank, name, "extract", planner),
        "dtype": settings.dtype,
        "conv": settings.conv,
        "seed": settings.seed,
    }
    before = base.path if settings.base else planner.paths.base_path()
    families = model_family(before), model_family(tuned.path)
    if None not in families and families[0] != families[1]:
        message = f"'{settings.tuned}' is a model of {families[1]} and the base of {families[0]}; both must be of one"
        raise planner.error(name, "extract", "tuned", message=message)
    return Draft(
        options,
        (base, tuned),
        lambda out, context: _make(out, context, settings, before, tuned.path, name, planner),
        family=planner.paths.base_family if settings.base is None else None,
    )


def _model(text: str, name: str, planner: Planner, key: str) -> StepInput:
    from loratools.adapter.files.checkpoint import open_checkpoint
    from loratools.base.base_path import POCKET, base_digest, base_path

    if text in planner.recipe.steps:
        source = planner.input(text, name, "extract", key)
        kind = planner.step(text).kind
        if kind != "merge_into":
            message = f"the step '{text}' is a {kind}, which makes no model; name a merge_into step, a file or a folder"
            raise planner.error(name, "extract", key, message=message)
        return source
    if text == POCKET:
        return StepInput(text, base_path(text), base_digest(text))
    path = planner.paths.find(text)
    if path is None:
        return planner.input(text, name, "extract", key)  # says what there is
    try:
        open_checkpoint(path)  # a LoRA is no model
        return StepInput(text, path, base_digest(path))
    except LoratoolsError as error:
        raise planner.error(name, "extract", key, message=str(error)) from error


def _make(
    out: Path, context: RunContext, settings: Extract, base: Path, tuned: Path, name: str, planner: Planner
) -> Outcome:
    from loratools.adapter.algebra.rank import parse_rank
    from loratools.dtypes import torch_dtype
    from loratools.ops.extract import extract_files

    return told(
        extract_files(
            base,
            tuned,
            out,
            rule=parse_rank(settings.rank),
            conv=settings.conv,
            dtype=torch_dtype(settings.dtype),
            seed=settings.seed,
            force=context.force,
            owner=planner.owner(name),
        )
    )
