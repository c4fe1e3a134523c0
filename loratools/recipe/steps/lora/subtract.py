"""``subtract``: a style with the base's own style removed, in one of four ways."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from loratools.errors import LoratoolsError
from loratools.recipe.plan.context import RunContext
from loratools.recipe.plan.lora_refs import Terms, read_terms, vector_values
from loratools.recipe.plan.planner import Planner
from loratools.recipe.plan.step import Draft, Outcome
from loratools.recipe.schema.lora_steps import Subtract
from loratools.recipe.schema.recipe import Step
from loratools.recipe.steps.lora.common import file_out, open_terms, rank_text, told, with_base

REVISION = 1
default_out = file_out


def draft(name: str, step: Step, planner: Planner) -> Draft:
    """Read both merge strings and the block weights."""
    from loratools.blocks.parse import parse_vector

    settings = step.options(Subtract)
    presets = planner.paths.presets(settings.presets, name)
    style = read_terms(settings.style, name, planner, presets, "subtract", "style")
    base = read_terms(settings.base_style, name, planner, presets, "subtract", "base_style")
    if style.family and base.family and style.family != base.family:
        message = f"'{settings.base_style}' is for {base.family} and the style for {style.family}; both must be of one"
        raise planner.error(name, "subtract", "base_style", message=message)
    if settings.blocks is not None:
        try:
            parse_vector(settings.blocks, presets, style.family or base.family)
        except LoratoolsError as error:
            raise planner.error(name, "subtract", "blocks", message=str(error)) from error
    options: dict[str, Any] = {
        **settings.model_dump(include={"mode", "energy", "side", "mu", "most", "dtype", "missing"}),
        "rank": rank_text(settings.rank, name, "subtract", planner),
        "style": style.options(presets),
        "base_style": base.options(presets),
        "blocks": None if settings.blocks is None else vector_values(settings.blocks, presets),
    }
    sources = with_base((*style.inputs, *base.inputs), settings.dora, planner)
    return Draft(
        options,
        sources,
        lambda out, context: _make(out, context, settings, (style, base), name, planner),
        family=style.family or base.family,
    )


def _make(
    out: Path, context: RunContext, settings: Subtract, sides: tuple[Terms, Terms], name: str, planner: Planner
) -> Outcome:
    from loratools.adapter.algebra.rank import parse_rank
    from loratools.blocks.parse import parse_vector
    from loratools.dtypes import torch_dtype
    from loratools.ops.style_removal import SubtractMethod
    from loratools.ops.subtract import subtract_files

    style, base = (
        open_terms(
            terms,
            planner,
            presets=settings.presets,
            missing=settings.missing,
            dora=settings.dora,
            allow_unknown=settings.allow_unknown,
        )
        for terms in sides
    )
    most = math.inf if settings.most is None else settings.most
    method = SubtractMethod(settings.mode, settings.energy, settings.side, settings.mu, most)
    presets, family = planner.paths.presets(settings.presets, name), style[0].adapter.family
    vector = parse_vector(settings.blocks, presets, family) if settings.blocks else None
    report = subtract_files(
        style,
        base,
        out,
        method=method,
        vector=vector,
        missing=settings.missing,
        rule=parse_rank(settings.rank),
        dtype=torch_dtype(settings.dtype),
        force=context.force,
        owner=planner.owner(name),
    )
    outcome = told(report.written, report.json())
    return Outcome(f"{outcome.summary}, {100 * report.total.removed:.1f} % removed", outcome.facts)
