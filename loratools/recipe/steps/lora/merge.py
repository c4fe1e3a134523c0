"""``merge``: the exact weighted sum of earlier steps and LoRA files, or another method's by name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from loratools.recipe.plan.context import RunContext
from loratools.recipe.plan.lora_refs import Terms, read_terms
from loratools.recipe.plan.planner import Planner
from loratools.recipe.plan.step import Draft, Outcome
from loratools.recipe.schema.lora_steps import Merge
from loratools.recipe.schema.recipe import Step
from loratools.recipe.steps.lora.common import file_out, open_terms, rank_text, told, with_base

if TYPE_CHECKING:
    from loratools.ops.merging.merge import MergePlan
    from loratools.ops.merging.method import MergeMethod
    from loratools.ops.merging.terms import Term

REVISION = 1
default_out = file_out


def draft(name: str, step: Step, planner: Planner) -> Draft:
    """Read the merge string, find its files, and put block vectors in by value."""
    settings = step.options(Merge)
    presets = planner.paths.presets(settings.presets, name)
    terms = read_terms(settings.terms, name, planner, presets, "merge", "terms")
    options = {
        "terms": terms.options(presets),
        **merge_options(settings),
        "rank": rank_text(settings.rank, name, "merge", planner),
    }
    return Draft(
        options,
        with_base(terms.inputs, settings.dora, planner),
        lambda out, context: write_merge(out, context, settings, terms, name, planner),
        family=terms.family,
    )


def merge_options(settings: Merge) -> dict[str, Any]:
    """The options that determine a merge beside its terms; those at their defaults are left out."""
    always = {"dtype": settings.dtype, "missing": settings.missing}
    return always | settings.model_dump(include={"method", "density", "match_norm", "compat"}, exclude_defaults=True)


def merge_plan(name: str, planner: Planner) -> MergePlan:
    """What the merge step ``name`` would do, block by block; the steps that it needs must have run."""
    from loratools.ops.merging.merge import plan

    return plan(merge_terms(name, planner))


def merge_terms(name: str, planner: Planner) -> list[Term]:
    """The terms of the merge step ``name``, their files opened; the steps that it needs must have run."""
    settings = planner.recipe.steps[name].options(Merge)
    terms = read_terms(settings.terms, name, planner, planner.paths.presets(settings.presets, name), "merge", "terms")
    return _opened(settings, terms, planner)


def merge_method(settings: Merge) -> MergeMethod:
    """What the step makes of its terms."""
    from loratools.ops.merging.method import MergeMethod

    return MergeMethod(settings.method, settings.density, settings.match_norm, settings.compat)


def _opened(settings: Merge, terms: Terms, planner: Planner) -> list[Term]:
    method = merge_method(settings)
    opened = open_terms(
        terms,
        planner,
        presets=settings.presets,
        missing=method.missing(settings.missing),
        dora=settings.dora,
        allow_unknown=settings.allow_unknown,
    )
    return method.prepared(opened)


def write_merge(out: Path, context: RunContext, settings: Merge, terms: Terms, name: str, planner: Planner) -> Outcome:
    """Write the sum of ``terms`` as ``settings`` say."""
    from loratools.adapter.algebra.rank import parse_rank
    from loratools.dtypes import torch_dtype
    from loratools.ops.merging.merge import merge_files

    report = merge_files(
        _opened(settings, terms, planner),
        out,
        rule=parse_rank(settings.rank),
        dtype=torch_dtype(settings.dtype),
        force=context.force,
        owner=planner.owner(name),
        method=merge_method(settings),
    )
    return told(report)
