"""From the arguments of a tune to what it will do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from loratools.base.model import LoadedBase
from loratools.measures.request import asks_for_marks, asks_for_votes
from loratools.ops.merging.terms import Term
from loratools.tune.dry_run.cost import done_of, memory_of, time_of
from loratools.tune.dry_run.report import Drawing, Numbers, Pictures, Prompts, TuneDryRun
from loratools.tune.folder import ASKED, FolderState, KeptWork, TuneFolder
from loratools.tune.plan import TunePlan, plan_tune
from loratools.tune.problem.prompts import Shot
from loratools.tune.problem.request import BLOCKS, GRADIENT, KINDS, PICTURES, TuneRequest
from loratools.tune.report.columns import BASE, BEFORE, GUIDE, STRENGTH, TUNED
from loratools.tune.report.result import FILE

_COLUMNS = (BASE, BEFORE, GUIDE, STRENGTH, TUNED)
_FILES = ("tuned.safetensors", FILE, "sheet.png", "frontier.png", "pictures/")
_FROM_HEADER = "made of the tags in the LoRA's header, which it was trained on"
GIVEN = "the ones that you gave"


def tune_dry_run(
    base: LoadedBase,
    terms: Sequence[Term],
    request: TuneRequest,
    out: Path,
    *,
    owner: str,
    force: bool = False,
    earlier: Term | None = None,
    source: str = GIVEN,
    edits: str = "",
) -> TuneDryRun:
    """What :func:`loratools.tune.tuning.tune` would do with the same arguments; nothing is drawn or written.

    Args:
        base: without its weights (see :func:`loratools.base.any_base.load_any_base`).
        source: where the request's prompts come from, if it has some.
        edits: the recipe that is edited at the end.
    Raises:
        LoratoolsError: what the tune would raise before its first picture.
    """
    plan = plan_tune(base, terms, request, earlier, loaded=False)
    part = _asking_part(request)
    folder = TuneFolder(out, writes=False, part=part or "search")
    state = folder.state(plan.key, owner, force=force)
    kept = _kept(folder, asks=bool(part)) if state is FolderState.SAME else KeptWork()
    labels = [f"{term.label or term.adapter.path.name} at weight {term.weight:g}" for term in terms]
    tuned = plan.space.tuned
    beside = [label for number, label in enumerate(labels) if number != tuned]
    if earlier is not None:
        beside.append(f"{earlier.label or earlier.adapter.path.name}, of which a part may stand in for each block")
    return TuneDryRun(
        tuned=labels[tuned],
        beside=tuple(beside),
        symptoms=request.symptoms,
        measures=tuple(own.text for own in request.measures),
        asks=_asks(plan) if part else "",
        keep=request.keep,
        method=GRADIENT if plan.choice.gradient else PICTURES,
        why=plan.choice.why,
        numbers=_numbers(plan),
        prompts=_prompts(plan, source if request.prompts else _FROM_HEADER),
        drawing=_drawing(plan),
        pictures=Pictures(
            stages=dict(plan.counts.stages),
            gradient_cost=request.gradient_cost if plan.choice.gradient else 1,
            columns=plan.columns,
            held_out=len(plan.shots.held_out),
            weight=plan.weight,
            later=tuple(zip(request.then, plan.later, strict=True)),
            there=done_of(plan, kept),
        ),
        folder=out,
        state=state,
        files=(*_FILES, f"{part}/" if part else "search/"),
        edits=edits,
        budget=request.budget,
        time=time_of(plan, kept),
        memory=memory_of(plan),
    )


def _asking_part(request: TuneRequest) -> str:
    """The folder of what a person is asked; empty where nobody is."""
    if asks_for_marks(request.measures):
        return "marks"
    return "votes" if asks_for_votes(request.measures) else ""


def _kept(folder: TuneFolder, *, asks: bool) -> KeptWork:
    if asks:
        return KeptWork(pictures=len(list((folder.path / folder.part / ASKED).glob("*.png"))))
    return folder.kept(_COLUMNS)


def _asks(plan: TunePlan) -> str:
    """What a person has to do before the search, and by which pictures."""
    effort, pool = plan.request.effort, len(plan.shots.search)
    stages = effort.search_stages(pool, len(plan.shots.fresh))
    first = pool + stages["ladder"] + stages["screening"]
    what = "stars for pictures" if asks_for_marks(plan.request.measures) else "which of two sides is better"
    return f"{what}, on a page of some of {first:,} that it draws before; with your answers the same command goes on"


def _numbers(plan: TunePlan) -> Numbers:
    space, choice = plan.space, plan.choice
    blocks = [one for one in space.dimensions if one.is_block]
    parts = KINDS if choice.kinds else BLOCKS
    low, high = min(one.low for one in blocks), max(one.high for one in blocks)
    more = [] if space.subtracted is None else ["what the subtracted LoRA's weight is multiplied by, from 0 to 2"]
    if space.earlier is not None:
        more.append("how much of each block comes from the earlier epoch, from 0 to 1")
    return Numbers(parts, choice.why_parts, tuple(one.name for one in blocks), low, high, tuple(more))


def _prompts(plan: TunePlan, source: str) -> Prompts:
    shots = plan.shots
    search, fresh = _texts(shots.search), _texts(shots.fresh)
    return Prompts(
        source=source,
        search=len(search),
        fresh=0 if fresh <= search else len(fresh),
        report=len(_texts(shots.held_out)),
        seeds=_seeds(shots.search),
        report_seeds=_seeds(shots.held_out),
    )


def _drawing(plan: TunePlan) -> Drawing:
    base, (height, width) = plan.base, plan.fine.size
    return Drawing(
        base=base.name,
        family=base.family,
        device=str(base.device),
        dtype=str(base.dtype).removeprefix("torch."),
        size=(width, height),
        batch=plan.request.batch,
        search=(plan.coarse.steps, plan.coarse.sampler),
        report=(plan.fine.steps, plan.fine.sampler),
    )


def _texts(shots: Sequence[Shot]) -> set[str]:
    return {shot.prompt for shot in shots}


def _seeds(shots: Sequence[Shot]) -> tuple[int, ...]:
    return tuple(dict.fromkeys(shot.seed for shot in shots))
