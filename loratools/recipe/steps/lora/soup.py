"""``soup``: the mean of several LoRAs."""

from __future__ import annotations

from loratools.ops.merging.merge_string import quoted
from loratools.recipe.plan.lora_refs import Terms, check_families, read_terms
from loratools.recipe.plan.planner import Planner
from loratools.recipe.plan.step import Draft
from loratools.recipe.schema.lora_steps import Merge, Soup
from loratools.recipe.schema.recipe import Step
from loratools.recipe.steps.lora.common import file_out, rank_text, with_base
from loratools.recipe.steps.lora.merge import merge_options, write_merge

REVISION = 1
default_out = file_out


def draft(name: str, step: Step, planner: Planner) -> Draft:
    """Each file at weight 1/n; a range of epochs counts as one file, which is their mean."""
    settings = step.options(Soup)
    found = [
        read_terms(f"{quoted(text)}:{1 / len(settings.files)!r}", name, planner, {}, "soup", "files", index)
        for index, text in enumerate(settings.files)
    ]
    terms = Terms(
        tuple(spec for one in found for spec in one.specs),
        tuple(source for one in found for source in one.inputs),
        {ref: path for one in found for ref, path in one.places.items()},
        tuple(family for one in found for family in one.families),
    )
    check_families(terms.specs, terms.families, planner, name, "soup", "files")
    merge = Merge.model_validate({"terms": "", **settings.model_dump(exclude={"files"})})
    options = {
        "terms": terms.options({}),
        **merge_options(merge),
        "rank": rank_text(settings.rank, name, "soup", planner),
    }
    return Draft(
        options,
        with_base(terms.inputs, settings.dora, planner),
        lambda out, context: write_merge(out, context, merge, terms, name, planner),
        family=terms.family,
    )
