"""``resize``: a LoRA of another rank, the loss stated."""

from __future__ import annotations

from pathlib import Path

from loratools.recipe.plan.context import RunContext
from loratools.recipe.plan.lora_refs import Terms, one_file, read_one
from loratools.recipe.plan.planner import Planner
from loratools.recipe.plan.step import Draft, Outcome
from loratools.recipe.schema.lora_steps import Resize
from loratools.recipe.schema.recipe import Step
from loratools.recipe.steps.lora.common import base_weights, file_out, rank_text, told, with_base

REVISION = 1
default_out = file_out


def draft(name: str, step: Step, planner: Planner) -> Draft:
    """Find the LoRA and read the rule."""
    settings = step.options(Resize)
    terms = read_one(settings.lora, name, planner, "resize", "lora")
    options = {"rank": rank_text(settings.rank, name, "resize", planner), "dtype": settings.dtype}
    return Draft(
        options,
        with_base(terms.inputs, settings.dora, planner),
        lambda out, context: _make(out, context, settings, terms, name, planner),
        family=terms.family,
    )


def _make(out: Path, context: RunContext, settings: Resize, terms: Terms, name: str, planner: Planner) -> Outcome:
    from loratools.adapter.algebra.rank import parse_rank
    from loratools.adapter.files.file import read
    from loratools.dtypes import torch_dtype
    from loratools.ops.resize import resize_file

    adapter = read(one_file(terms), base_weights(planner) if settings.dora else None)
    report = resize_file(
        adapter,
        out,
        rule=parse_rank(settings.rank),
        dtype=torch_dtype(settings.dtype),
        force=context.force,
        owner=planner.owner(name),
    )
    return told(report.stored, report.json())
