"""``tune``: a block vector for one LoRA, found by looking at its pictures."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from loratools.base.model import LoadedBase
from loratools.measures.build import MeasureContext, MeasureSet, build_measures
from loratools.measures.measure import Shown
from loratools.measures.probe.marked import Marked
from loratools.measures.probe.pairs import PairChoice
from loratools.measures.request import MARKED, asks_for_marks, asks_for_votes
from loratools.ops.merging.terms import Term
from loratools.preview.render.population import PopulationRenderer
from loratools.preview.request.options import EngineOptions
from loratools.train.distributed import Ranks
from loratools.tune.asking.by_marks import Marker, MarksAsker
from loratools.tune.asking.by_votes import Chooser, VotesAsker
from loratools.tune.asking.rounds import AskedTune, Asker
from loratools.tune.descent.pictures import SmoothPictures
from loratools.tune.drawing import BaseDraws
from loratools.tune.folder import TuneFolder
from loratools.tune.plan import plan_tune
from loratools.tune.problem.request import TuneRequest
from loratools.tune.progress import OnProgress, TuneProgress, part_of
from loratools.tune.report.result import TuneResult
from loratools.tune.run import TuneRun, write_files
from loratools.tune.then.chain import Begun, Follow, follow

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
        FileError, DatasetError: if ``out`` holds something else; for pictures that cannot be read.
        LoratoolsError: as :meth:`PopulationRenderer.draw`.
        Stopped: for a Ctrl-C before plain strengths are drawn; a KeyboardInterrupt.
    """
    plan = plan_tune(base, terms, request, earlier)
    trained, space, shots, fine, coarse = plan.trained, plan.space, plan.shots, plan.fine, plan.coarse
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

    hear, done = on_progress or _silent, 0
    search_heard = part_of(hear, 0, sum(plan.later))

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
            key=plan.key,
            folder=TuneFolder(Path(out), ranks.main),
            ranks=ranks,
            smooth=partial(SmoothPictures, trained, space, coarse) if trained and plan.choice.gradient else None,
            weight=plan.weight,
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


def _silent(_: TuneProgress) -> None:
    """Reports nothing."""
