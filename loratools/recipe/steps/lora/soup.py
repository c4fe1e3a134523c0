"""``soup``: the mean of several LoRAs."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from loratools.ops.merging.merge_string import quoted
from loratools.recipe.plan.lora_refs import Terms, check_families, read_terms
from loratools.recipe.plan.planner import StepRequest
from loratools.recipe.plan.step import Draft
from loratools.recipe.schema.fields import Texts
from loratools.recipe.schema.kinds import StepKind
from loratools.recipe.steps.lora.common import TermOptions
from loratools.recipe.steps.lora.merge import Merge, MergeStep


class Soup(TermOptions):
    """The mean of several LoRAs, such as the epochs of a run."""

    shorthand: ClassVar[str] = "files"
    files: Texts = Field(description="files, steps, or `run@6-8`")


KIND = StepKind("soup", Soup, "lora")


def draft(request: StepRequest) -> Draft:
    """Each file at weight 1/n; a range of epochs counts as one file, which is their mean."""
    options = request.options(Soup)
    weight = 1 / len(options.files)
    each = [
        read_terms(f"{quoted(text)}:{weight!r}", request, {}, "files", index)
        for index, text in enumerate(options.files)
    ]
    terms = Terms(
        tuple(spec for one in each for spec in one.specs),
        tuple(item for one in each for item in one.inputs),
        {ref: path for one in each for ref, path in one.paths.items()},
        tuple(family for one in each for family in one.families),
    )
    check_families(terms.specs, terms.families, request, "files")
    merge = Merge.model_validate({"terms": "", **options.model_dump(exclude={"files"})})
    return MergeStep(request, merge, terms, {}).draft()
