"""``tune``: a LoRA whose block vector was searched on its own pictures: a symptom is least, its style and tags stay.

``loratools blocks tune RECIPE`` edits the numbers in the recipe; this step leaves them as they are and makes a second
file, with the search's pictures and figures in a folder beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from loratools.errors import LoratoolsError, MeasureError
from loratools.progress import tqdm_bar
from loratools.recipe.plan.context import RunContext
from loratools.recipe.plan.lora_refs import Terms, check_base, read_terms
from loratools.recipe.plan.paths import digest_of
from loratools.recipe.plan.planner import StepRequest
from loratools.recipe.plan.step import Draft, Outcome, StepInput
from loratools.recipe.schema.fields import Above, Count, Fraction, NumberText, Seed, Texts, listed
from loratools.recipe.schema.kinds import StepKind, UnitCost
from loratools.recipe.steps.lora.common import TermOptions, open_terms, outcome_of, rank_text, with_base
from loratools.recipe.steps.pictures.picture_size import check_size
from loratools.tune.problem.weight_range import HIGHEST, LOWEST

if TYPE_CHECKING:
    from loratools.blocks.vector import Presets
    from loratools.measures.request import MeasureRequest
    from loratools.tune.problem.request import TuneRequest
    from loratools.tune.progress import OnProgress, TuneProgress


class Tune(TermOptions):
    """A LoRA whose block vector was searched on its own pictures: the symptom is least, the style and the tags stay."""

    lora: str = Field(
        description="a merge string, such as `style@8:1:GP1`; the vector of its first positive term is tuned"
    )
    symptom: Texts = Field(description="hands, limbs, face, clothes, chaos or style; one or several")
    measure: Texts = Field(("judge",), description="what leads the search, as in `blocks tune`; one or several")
    prompts: Annotated[tuple[str, ...], BeforeValidator(listed)] = Field(
        (), description="prompts, or one file of them, a line each; made of the LoRA's training tags if left out"
    )
    seeds: NumberText | None = Field(
        None, description="of the search: 1, [1, 2] or 1-4; the report has others; as many as it needs if left out"
    )
    keep: Fraction = Field(0.95, description="share of the style that has to stay")
    lowest: float = Field(LOWEST, description="least block weight that is tried; below 0 a block is subtracted")
    highest: float = Field(HIGHEST, description="greatest block weight that is tried")
    method: Literal["auto", "gradient", "pictures"] = Field(
        "auto", description="gradient follows judge, like, unlike and marks; pictures needs none, for any measure"
    )
    parts: Literal["auto", "blocks", "kinds"] = Field(
        "auto", description="what has a number: each block, or each kind of layers in a block"
    )
    amount: bool = Field(False, description="search the amount of the subtracted LoRA as well")
    epochs_by_block: Count | None = Field(
        None, description="an earlier epoch of the tuned run; search how much of each block comes from it as well"
    )
    quick: bool = Field(False, description="a third of the pictures")
    then: Annotated[tuple[str, ...], BeforeValidator(listed)] = Field(
        (), description="ways to go on, in order: picks, defect-lora, search; taken where they help"
    )
    seed: Seed | None = Field(None, description="of the search's own choices; the recipe's seed if left out")
    training: str | None = Field(None, description="training pictures, which some measures look at; a folder or a step")
    negative: str = Field("", description="the negative prompt")
    steps: Count | None = Field(None, description="sampler steps of the report's pictures; the search's take fewer")
    cfg: Above | None = Field(None, description="guidance scale")
    sampler: str | None = Field(None, description="the WebUI's sampler and schedule type, such as `DPM++ 2M Karras`")
    size: NumberText | None = Field(None, description="512 or 512x768")
    frames: Count | None = Field(None, description="of a video base's videos, whose middle is shown")
    batch_size: Count = Field(8, description="pictures at once")


_PORTION = 8  # pictures of a generation that are worth a process
KIND = StepKind("tune", Tune, "lora", loads_model=True, shared="required", guess=UnitCost(seconds=0.4))


def draft(request: StepRequest) -> Draft:
    """Read the merge string, the prompts and the measures."""
    from loratools.tune.problem.then import pictures_of

    options = request.options(Tune)
    presets = request.presets(options.presets)
    terms = read_terms(options.lora, request, presets, "lora")
    check_base(terms, request, "lora")
    wanted = _tune_request(options, request)
    earlier = _earlier(options, terms, request, presets)
    training = None if options.training is None else request.input(options.training, "training")
    resolved: dict[str, Any] = {
        **options.model_dump(include={"dtype", "missing", "dora"}),
        "terms": terms.options(presets),
        "rank": rank_text(options.rank, request),
        "search": wanted.facts(),
        **({"then": list(wanted.then)} if wanted.then else {}),
        **({"earlier": earlier.options(presets)} if earlier is not None else {}),
    }
    inputs: list[StepInput] = [*terms.inputs, request.paths.base_input(), *([training] if training else [])]
    inputs += [] if earlier is None else earlier.inputs
    measures = [_measure(own, request) for own in wanted.measures]
    inputs += [own for _, read in measures for own in read]
    wanted_here = replace(wanted, measures=tuple(own for own, _ in measures))
    step = TuneStep(request, options, terms, presets, wanted_here, training, earlier)
    effort = wanted.effort
    count = max(effort.pool, effort.prompts)
    later = [pictures_of(way, effort, count, 2 * effort.held_out) for way in wanted.then]
    return Draft(
        resolved,
        with_base(tuple(inputs), options.dora, request.paths),
        step.make,
        family=terms.family,
        units=(wanted if earlier is None else effort).search_pictures(count, effort.fresh) + sum(later),
        most_processes=max(1, wanted.effort.population * wanted.effort.shots // _PORTION),
    )


def _tune_request(options: Tune, request: StepRequest) -> TuneRequest:
    """What is asked for, checked option by option.

    Raises:
        RecipeError: at the option that cannot be read.
    """
    from loratools.measures.request import asks_for_marks, asks_for_votes, parse_measures
    from loratools.preview.request.numbers import parse_seeds, parse_size
    from loratools.preview.request.read_prompts import read_prompts
    from loratools.preview.request.request import SamplingRequest
    from loratools.tune.problem.effort import FULL, QUICK
    from loratools.tune.problem.request import TuneRequest, sorted_symptoms
    from loratools.tune.problem.then import read_ways
    from loratools.tune.problem.weight_range import WeightRange

    with _at(request, "measure"):
        measures = parse_measures(options.measure)
        if asks_for_marks(measures) or asks_for_votes(measures):
            raise MeasureError(
                "a recipe's step cannot wait for a person's answers; give 'marks=VOTES.json', or like and unlike "
                "folders, or tune the recipe with `loratools blocks tune`"
            )
    with _at(request, "prompts"):
        prompts = tuple(read_prompts(options.prompts, request.paths.find))
    with _at(request, "seeds"):
        seeds = tuple(parse_seeds(options.seeds)) if options.seeds else ()
    with _at(request, "size"):
        size = parse_size(options.size) if options.size else None
    if size is not None:
        check_size(size, request, "size")
    with _at(request, "lowest" if options.lowest else "highest"):
        weights = WeightRange(options.lowest, options.highest)
    with _at(request, "then"):
        ways = read_ways(options.then)
    with _at(request, "symptom"):
        return TuneRequest(
            sorted_symptoms(options.symptom),
            prompts,
            measures,
            seeds,
            options.keep,
            options.amount,
            QUICK if options.quick else FULL,
            None,
            request.planner.recipe.seed if options.seed is None else options.seed,
            SamplingRequest(
                options.negative or None, options.steps, options.cfg, options.sampler, size, frames=options.frames
            ),
            None,
            options.batch_size,
            ways,
            weights,
            options.method,
            options.parts,
        )


def _earlier(options: Tune, terms: Terms, request: StepRequest, presets: Presets) -> Terms | None:
    """The earlier epoch of the tuned run, if one is asked for.

    Raises:
        RecipeError: where the tuned LoRA is no run, has no such epoch, or is that epoch itself.
    """
    from loratools.adapter.files.epoch_files import is_run

    number, place = options.epochs_by_block, "epochs_by_block"
    if number is None:
        return None
    if options.parts == "kinds" or options.method == "gradient":
        option = "parts" if options.parts == "kinds" else "method"
        message = f"'{option}: {getattr(options, option)}' does not go with `epochs_by_block`; leave one of them out"
        raise request.error(option, message=message)
    spec = next((own for own in terms.specs if own.weight > 0), None)
    if spec is None:
        raise request.error("lora", message="nothing here has a positive weight, so there is no LoRA to tune")
    if spec.ref not in request.planner.recipe.steps and not is_run(terms.paths[spec.ref]):
        message = f"'{spec.ref}' is a single file; only a run, such as the step that trains it, has earlier epochs"
        raise request.error(place, message=message)
    if spec.epoch == str(number):
        message = f"epoch {number} is the one that is tuned; give an earlier one"
        raise request.error(place, message=message)
    return read_terms(replace(spec, epoch=str(number), vector_text=None).text(), request, presets, place)


@contextmanager
def _at(request: StepRequest, option: str) -> Iterator[None]:
    try:
        yield
    except LoratoolsError as error:
        raise request.error(option, message=str(error)) from error


def _measure(measure: MeasureRequest, request: StepRequest) -> tuple[MeasureRequest, list[StepInput]]:
    """``measure`` with the place of the folder, the votes or the module that it names, which is looked for beside the
    recipe first, like all that a recipe names; and what it reads, whose content is part of the step's key.

    Raises:
        RecipeError: for a folder or a file of marks that is not there.
    """
    from loratools.measures.request import MARKED
    from loratools.measures.sources import sources_of

    if measure.kind in MARKED:
        read = request.input(measure.source, "measure")
        return replace(measure, source=str(read.path)), [read]
    if measure.kind == "python":
        module, _, function = (part.strip() for part in measure.source.rpartition(":"))
        file = request.paths.find(module if module.endswith(".py") else f"{module.replace('.', '/')}.py")
        measure = measure if file is None else replace(measure, source=f"{file}:{function}")
    return measure, [StepInput(path.name, path, digest_of(path)) for path in sources_of([measure])]


@dataclass(frozen=True)
class TuneStep:
    """A tune whose terms are found."""

    request: StepRequest
    options: Tune
    terms: Terms
    presets: Presets
    wanted: TuneRequest
    training: StepInput | None
    earlier: Terms | None = None

    def make(self, out: Path, context: RunContext) -> Outcome:
        """Search, and write the LoRA ``out``; what the search drew lies in a folder beside it, ``OUT-tune``.

        Several processes draw a part each, and the first one writes.
        """
        from loratools.adapter.algebra.rank import parse_rank
        from loratools.dtypes import torch_dtype
        from loratools.ops.merging.merge import merge_files
        from loratools.train.distributed import joined
        from loratools.tune.tuning import tune

        options, paths = self.options, self.request.paths
        terms = open_terms(self.terms, options, self.presets, paths)
        earlier = None if self.earlier is None else open_terms(self.earlier, options, self.presets, paths)[0]
        wanted = replace(self.wanted, training=None if self.training is None else self.training.path)
        with joined(context.device) as (ranks, device), _progress(context, self.request.name) as on_progress:
            result = tune(
                context.kept.base(paths.base, device),
                terms,
                wanted,
                out.with_name(f"{out.stem}-tune"),
                on_progress=on_progress,
                owner=self.request.owner,
                force=context.force,
                ranks=ranks,
                earlier=earlier,
            )
        if not result.finished:
            raise KeyboardInterrupt  # the search was stopped; it goes on from there
        if not ranks.main:
            return Outcome("")
        report = merge_files(
            result.terms,
            out,
            rule=parse_rank(options.rank),
            dtype=torch_dtype(options.dtype),
            force=context.force,
            owner=self.request.owner,
            recipe=context.recipe(),
        )
        outcome = outcome_of(report)
        target = result.goals.targets[0].name
        before, after = result.held.estimates("before")[target], result.held.estimates(result.answer)[target]
        summary = f"{target} {before.text()} -> {after.text()} ({result.answer}), {outcome.summary}"
        return Outcome(summary, {**outcome.facts, "tune": result.json()})


@contextmanager
def _progress(context: RunContext, name: str) -> Iterator[OnProgress | None]:
    """A bar of the search's pictures on stderr, if the run wants one."""
    if not context.progress:
        yield None
        return
    with tqdm_bar(total=1, desc=name, leave=False, unit="pictures") as shown:

        def on_progress(progress: TuneProgress) -> None:
            shown.total = progress.total
            shown.update(progress.done - shown.n)

        yield on_progress
