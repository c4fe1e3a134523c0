"""``tune``: a block vector for one LoRA, found by looking at its pictures."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from loratools.base.model import Base, LoadedBase
from loratools.errors import TuneError
from loratools.measures.build import MeasureContext, MeasureSet, build_measures, check_base
from loratools.measures.measure import Shown
from loratools.measures.probe.marked import Marked
from loratools.measures.probe.pairs import PairChoice
from loratools.measures.request import MARKED, asks_for_marks, asks_for_votes, digest_of_sources
from loratools.ops.merging.merge import term_facts
from loratools.ops.merging.terms import Term
from loratools.preview.plan.plan import settings_on
from loratools.preview.record.cells import SamplingSettings
from loratools.preview.render.population import PopulationRenderer
from loratools.preview.request.options import EngineOptions
from loratools.preview.request.setting import CellSetting
from loratools.train.distributed import Ranks
from loratools.tune.asking.by_marks import Marker, MarksAsker
from loratools.tune.asking.by_votes import Chooser, VotesAsker
from loratools.tune.asking.rounds import AskedTune, Asker
from loratools.tune.drawing import BaseDraws, coarse_settings
from loratools.tune.folder import TuneFolder
from loratools.tune.problem.prompts import Split, exclusive_tags, prompts_from_header, split_prompts
from loratools.tune.problem.request import TuneRequest
from loratools.tune.problem.space import Space
from loratools.tune.problem.then import pictures_of
from loratools.tune.progress import OnProgress, TuneProgress, part_of
from loratools.tune.report.result import TuneResult
from loratools.tune.run import TuneRun, write_files
from loratools.tune.then.chain import Begun, Follow, follow
from loratools.tune.then.training import check_trainable

OWNER = "blocks tune"


def tune(
    base: LoadedBase,
    terms: Sequence[Term],
    request: TuneRequest,
    out: str | os.PathLike[str],
    *,
    on_progress: OnProgress | None = None,
    on_note: Callable[[str], None] | None = None,
    owner: str = OWNER,
    force: bool = False,
    recipe: Mapping[str, Any] | None = None,
    ranks: Ranks = Ranks(),  # noqa: B008  (frozen)
    earlier: Term | None = None,
    marker: Marker | None = None,
    chooser: Chooser | None = None,
    votes: Path | None = None,
) -> TuneResult:
    """Search the block weights of the first positive term of ``terms`` for what ``request`` names, and report.

    The folder ``out`` gets ``tuned.safetensors``, ``tune.json``, ``sheet.png`` and ``frontier.png``, and every
    generation as soon as it is drawn: after a kill the same call goes on there and ends as it would have. Ctrl-C and a
    budget end the search early; the best vector so far is then checked, reported and written.

    Ways of ``request.then`` follow, each from the best so far; what they make is taken where held-out pictures
    say that it is better. All of them go on after a stop as the search does.

    Args:
        on_progress: called after every picture.
        on_note: called with what a person should know before the end: what a measure is worth, and a stop.
        owner: who may overwrite the files in ``out`` without ``force``.
        recipe: for the header of the file, if this is a recipe's step.
        ranks: of several processes that all call this with the same arguments, in one process group.
        earlier: an earlier epoch of the tuned LoRA: how much of each block comes from it is searched as well.
        marker: gives pictures their stars, in place of a person; for the measure ``marks`` without a file.
        chooser: chooses between two sides; for the measure ``votes``.
        votes: what a page of ``out`` exported, where it was not saved beside that page.
    Raises:
        AnswersWantedError: where the measure is ``votes``, or ``marks`` without a file, and the first page has no
            answers yet.
        TuneError, PromptError, BlockError: if there is nothing to search, too few prompts, or ways that train on from
            what is no plain LoRA.
        MeasureError: for a measure that fails, or says the same of every picture.
        FileError: if ``out`` holds something else.
        LoratoolsError: as :meth:`PopulationRenderer.draw`.
    """
    space = Space.of(terms, amount=request.amount, earlier=earlier, weights=request.weights)
    check_base(request.measures, base)
    trained = base if isinstance(base, Base) else None  # one that can be trained on, and whose UNet sees pictures
    if request.then and trained is None:
        raise TuneError(
            f"what follows a search trains, on SD 1.x, SD 2.x and SDXL alone, and {base.name} is none of them; leave "
            "`then` out"
        )
    if request.then:
        check_trainable([*terms, *([] if earlier is None else [earlier])])
    shots = shots_of(space, request, base)
    fine = settings_on(base, CellSetting.of_sampling(request.sampling))
    coarse = coarse_settings(fine, request.effort.steps)

    begun: list[Begun] = []

    def measures(
        drawn: Sequence[Shown],
        whole: Sequence[Shown],
        marked: Marked | None = None,
        choices: Sequence[PairChoice] | None = None,
    ) -> MeasureSet:
        context = MeasureContext(base, request.symptoms, drawn, whole, request.training, marked, choices)
        begun[:] = [Begun(build_measures(request.measures, context), drawn, whole)]
        return begun[0].measures

    weight, hear, done = max(1, round(fine.steps / coarse.steps)), on_progress or _silent, 0
    later = [pictures_of(way, request.effort, len(shots.search), weight * len(shots.held_out)) for way in request.then]
    search_heard = part_of(hear, 0, sum(later))

    def hear_search(own: TuneProgress) -> None:
        nonlocal done
        done = own.done
        search_heard(own)

    with PopulationRenderer(base, EngineOptions(batch=request.batch), rank=ranks) as renderer:
        draws = BaseDraws(renderer, space, fine, coarse)
        run = TuneRun(
            space=space,
            request=request,
            shots=shots,
            draws=draws,
            make_measures=measures,
            key=_key(space, request, base, shots, (fine, coarse)),
            folder=TuneFolder(Path(out), ranks.main),
            ranks=ranks,
            weight=weight,
            on_progress=hear_search,
            on_note=on_note or (lambda text: None),
        )
        if trained is not None and (asks_for_marks(request.measures) or asks_for_votes(request.measures)):
            given = any(own.kind in MARKED and own.source for own in request.measures)
            asker: Asker
            if asks_for_marks(request.measures):
                asker = MarksAsker(shots.search, request.symptoms, measures, given, marker, request.seed)
            else:
                from loratools.measures.probe.unet_features import UNetFeatures

                describe = UNetFeatures(trained)
                asker = VotesAsker(shots.search, request.symptoms, measures, describe, chooser, request.seed)
            result = AskedTune(run, asker, given, votes).run(owner, force=force, recipe=recipe)
        else:
            result = run.run(owner, force=force, recipe=recipe)
    if trained is None or not request.then or result.waiting:
        return result
    result = follow(result, run, begun[0], Follow(trained, fine, coarse, part_of(hear, done, 0)), owner)
    if ranks.main:
        write_files(result, owner, force=force, recipe=recipe)
    return result


def shots_of(space: Space, request: TuneRequest, base: LoadedBase | None = None) -> Split:
    """The pictures of the search and of the report.

    Raises:
        PromptError: if there are too few prompts, or none and nothing to make them of.
    """
    prompts: Sequence[str] = request.prompts
    if not prompts:
        apart = exclusive_tags("" if base is None else base.name)
        prompts = prompts_from_header(space.terms[space.tuned].adapter.metadata, request.seed, apart=apart)
    return split_prompts(prompts, request.seeds, request.effort, request.seed)


def _key(
    space: Space,
    request: TuneRequest,
    base: LoadedBase,
    shots: Split,
    settings: tuple[SamplingSettings, SamplingSettings],
) -> str:
    """sha256 over all that decides what is drawn and chosen."""
    sources = digest_of_sources(request.measures, request.training)
    content = {
        "terms": [term_facts(term) for term in space.terms],
        **({} if space.earlier is None else {"earlier": term_facts(space.earlier)}),
        "request": request.facts(),
        **({"sources": sources} if sources else {}),
        "base": base.drawn_by,
        "shots": repr(shots),
        "settings": repr(settings),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _silent(_: TuneProgress) -> None:
    """Reports nothing."""
