"""``soup``: the mean of several LoRAs, or of a run's epochs weighed by a power of time."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from loratools.errors import FileError, LoratoolsError
from loratools.ops.merging.merge_string import quoted
from loratools.recipe.plan.lora_refs import Terms, check_families, read_terms
from loratools.recipe.plan.planner import StepRequest
from loratools.recipe.plan.step import Draft
from loratools.recipe.schema.fields import Above, Texts
from loratools.recipe.schema.kinds import StepKind
from loratools.recipe.steps.lora.common import TermOptions
from loratools.recipe.steps.lora.merge import Merge, MergeStep


class Soup(TermOptions):
    """The mean of several LoRAs, such as the epochs of a run."""

    shorthand: ClassVar[str] = "files"
    files: Texts = Field(description="files, steps, or `run@6-8`; with `ema` one run, or a range of it")
    ema: bool = Field(False, description="weigh the epochs by a power of time, as an EMA would have")
    sigma_rel: Above | None = Field(
        None, description="ema: its width over the training's length (0.1); 0.289 is the plain mean"
    )
    gamma: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = Field(
        None, description="ema: the exponent in place of the width, such as 7"
    )


KIND = StepKind("soup", Soup, "lora")


def draft(request: StepRequest) -> Draft:
    """Each file at weight 1/n; a range of epochs counts as one file, which is their mean."""
    options = request.options(Soup)
    if options.ema or options.sigma_rel is not None or options.gamma is not None:
        each = _epochs(options, request)
    else:
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
    merge = Merge.model_validate({"terms": "", **options.model_dump(exclude={"files", "ema", "sigma_rel", "gamma"})})
    return MergeStep(request, merge, terms, {}).draft()


def _epochs(options: Soup, request: StepRequest) -> list[Terms]:
    """A term for each epoch of the run, with its weight in the average."""
    from loratools.adapter.files.epoch_files import parse_reference
    from loratools.ops.merging.ema import chosen_epochs, ema_weights, gamma_of

    if len(options.files) > 1:
        raise request.error("files", message="an EMA is over the epochs of one run; name one")
    reference = parse_reference(options.files[0])
    try:
        numbers, before = chosen_epochs(_numbers(reference.name, request), reference.selector, reference.name)
        weights = ema_weights(numbers, gamma_of(options.sigma_rel, options.gamma), before)
    except LoratoolsError as error:
        raise request.error("files", message=str(error)) from error
    return [
        read_terms(f"{quoted(f'{reference.name}@{number}')}:{weight!r}", request, {}, "files")
        for number, weight in zip(numbers, weights, strict=True)
    ]


def _numbers(name: str, request: StepRequest) -> list[int]:
    """The epochs that a run has, or will have."""
    from loratools.adapter.files.epoch_files import epochs

    if name in request.planner.recipe.steps:
        draft = request.planner.step(name).draft
        if draft.epochs is None:
            raise FileError(f"the step '{name}' is no training, so it has no epochs to average")
        return sorted(draft.kept_epochs) or list(range(1, draft.epochs + 1))
    return [one.number for one in epochs(read_terms(quoted(name), request, {}, "files").paths[name])]
