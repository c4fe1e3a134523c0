"""What pictures decide: which block vector repairs a LoRA, and which epoch of a run to take."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from loratools.library.options import OneOrMore, PresetSource, StrPath, key_rules, several
from loratools.library.terms import TermReading, short_terms
from loratools.progress import OnProgress

if TYPE_CHECKING:
    from loratools.preview.request.request import SamplingRequest
    from loratools.train.callbacks.records import OnNote
    from loratools.tune.epochs.result import EpochVerdict
    from loratools.tune.progress import TuneProgress
    from loratools.tune.report.result import TuneResult


def judge_epochs(
    run: StrPath,
    *,
    base: StrPath,
    prompts: OneOrMore = (),
    seeds: Sequence[int] = (),
    training_images: OneOrMore = (),
    held_out: OneOrMore = (),
    measures: OneOrMore = (),
    votes: StrPath | None = None,
    sampling: SamplingRequest | None = None,
    allow_unknown: bool = False,
    drop: OneOrMore = (),
    device: str = "auto",
    force: bool = False,
    on_progress: OnProgress | None = None,
    on_note: OnNote | None = None,
) -> EpochVerdict:
    """Draw every epoch of a run on the same prompts and seeds, measure the pictures, and recommend one epoch.

    ``NAME.verdict.json`` is written into the run's folder, and ``run@best`` is that epoch from then on. Pictures stay
    in ``NAME-verdict`` there, so that work that was stopped goes on.

    Args:
        run: its folder, or ``FOLDER/NAME`` where a folder holds several.
        base: a Diffusers folder, a ``.safetensors`` or ``.ckpt`` file, a hub id, or ``pocket``.
        prompts: one or more; by default captions of held-out pictures, else of training pictures.
        seeds: by default as many as make about 32 pictures an epoch.
        training_images, held_out: folders of pictures, where the run's header does not lead to them.
        measures: of defects: ``judge``, ``like=DIR`` with ``unlike=DIR``, ``python=MODULE:FUNCTION`` or
            ``command=COMMAND``.
        votes: a file of votes that a grid's page exported.
        sampling: ``SamplingRequest(steps=20, cfg=7)``; None takes the base's own.
        allow_unknown, drop: as for ``read``.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        force: overwrite a verdict or pictures that this run did not write.
        on_progress: called as ``on_progress(pictures done, all pictures)`` after each batch.
        on_note: called with a sentence for each thing that one should know.
    Returns:
        ``decision.epoch``, and all the evidence for it.
    Raises:
        PromptError, DatasetError, MeasureError: where there is nothing to draw, or to measure by.
        FileError, FormatError, BaseModelError: for a run, a verdict or a base that cannot be used.
    """
    from loratools.measures.request import parse_measures
    from loratools.preview.request.request import SamplingRequest
    from loratools.tune.epochs.evaluation_set import EvaluationRequest
    from loratools.tune.epochs.verdict import VerdictRequest, epoch_verdict

    request = VerdictRequest(
        run=Path(run),
        base=str(base),
        material=EvaluationRequest(
            prompts=several(prompts),
            images=tuple(map(Path, several(training_images))),
            held_out=tuple(map(Path, several(held_out))),
        ),
        seeds=tuple(seeds),
        sampling=sampling or SamplingRequest(),
        measures=parse_measures(several(measures)),
        votes=None if votes is None else Path(votes),
        device=device,
        keys=key_rules(allow_unknown, drop),
        force=force,
    )
    return epoch_verdict(request, on_picture=on_progress, on_note=on_note)


def tune(
    terms: str,
    out: StrPath,
    *,
    base: StrPath,
    symptoms: OneOrMore,
    measures: OneOrMore = (),
    prompts: OneOrMore = (),
    seeds: Sequence[int] = (),
    keep: float = 0.95,
    budget: float | None = None,
    quick: bool = False,
    sampling: SamplingRequest | None = None,
    lora_dirs: OneOrMore = (),
    presets: PresetSource | None = None,
    device: str = "auto",
    force: bool = False,
    on_progress: OnProgress | None = None,
) -> TuneResult:
    """Find the block vector that repairs a LoRA, by looking at its pictures.

    The folder ``out`` gets ``tuned.safetensors``, ``tune.json``, ``sheet.png`` and ``frontier.png``. A tune that was
    stopped goes on where it was. What it ends with is shown on prompts and seeds that the search never saw, and where
    it does not beat plain strength, plain strength is the answer.

    Args:
        terms: a LoRA file, or a merge string, whose first LoRA of positive weight is searched.
        base: a Diffusers folder, a ``.safetensors`` or ``.ckpt`` file, a hub id, or ``pocket``.
        symptoms: ``hands``, ``limbs``, ``face``, ``clothes``, ``chaos`` or ``style``; one or more.
        measures: ``judge``, which reads the pocket base's pictures and is the default; ``votes`` or ``marks``, which
            ask a person; ``marks=VOTES.json``, ``like=DIR`` with ``unlike=DIR``, ``python=MODULE:FUNCTION`` or
            ``command=COMMAND``.
        prompts: prompts, or files of them; made of the LoRA's training tags if there are none.
        seeds: of the search's pictures, by default as many as it needs; the report has others.
        keep: the share of the style that has to stay.
        budget: seconds after which the best so far is reported.
        quick: draw a third of the pictures.
        sampling: of the report's pictures: ``SamplingRequest(steps=20, cfg=7)``; None takes the base's own.
        lora_dirs, presets: as for ``merge``.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        force: overwrite what something else wrote.
        on_progress: called as ``on_progress(pictures done, all pictures)`` after each picture.
    Returns:
        The ``file``, the ``sheet``, and figures of before and after; ``text()`` for a person, and ``json()``.
    Raises:
        TuneError, PromptError, MeasureError: if there is nothing to search, or to search by.
        AnswersWantedError: where a person is asked: ``page`` waits for answers, which belong into ``answers``; then the
            same call goes on. A result whose ``waiting`` is not empty asks for more, which may be left.
        LoratoolsError: of the kinds that ``merge`` and ``render_grid`` name.
    """
    from loratools.base.any_base import load_any_base
    from loratools.measures.request import MeasureRequest, parse_measures
    from loratools.preview.request.read_prompts import read_prompts
    from loratools.preview.request.request import SamplingRequest
    from loratools.tune.problem.effort import FULL, QUICK
    from loratools.tune.problem.request import TuneRequest, sorted_symptoms
    from loratools.tune.tuning import OWNER
    from loratools.tune.tuning import tune as search

    request = TuneRequest(
        symptoms=sorted_symptoms(several(symptoms)),
        prompts=tuple(read_prompts(several(prompts), lambda text: Path(text) if Path(text).is_file() else None)),
        measures=parse_measures(several(measures)) or (MeasureRequest("judge"),),
        seeds=tuple(seeds),
        keep=keep,
        effort=QUICK if quick else FULL,
        budget=budget,
        sampling=sampling or SamplingRequest(),
    )

    def hear(progress: TuneProgress) -> None:
        if on_progress is not None:
            on_progress(progress.done, progress.total)

    opened = TermReading(lora_dirs, presets).terms(terms)
    return search(
        load_any_base(str(base), device=device, dtype=None),
        opened,
        request,
        Path(out),
        on_progress=hear,
        owner=f"{OWNER} {short_terms(terms)}",
        force=force,
    )


def tune_further(
    result: TuneResult,
    then: OneOrMore,
    *,
    base: StrPath,
    device: str = "auto",
    force: bool = False,
    on_progress: OnProgress | None = None,
) -> TuneResult:
    """Go on from what :func:`tune` found: the same folder, with ways that train on its pictures.

    What a way makes is the answer where held-out pictures say that it is better; else the answer stays.

    Args:
        result: what ``tune`` returned; nothing of its search is drawn again.
        then: ways, in order: ``picks`` trains on with the LoRA's best pictures, ``defect-lora`` subtracts what its bad
            ones teach, ``search`` searches again.
        base: the one that the LoRA was tuned on.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        force: overwrite what something else wrote.
        on_progress: called as ``on_progress(pictures done, all pictures)`` after each picture.
    Returns:
        The same as ``tune``; ``then`` has what each way came to.
    Raises:
        TuneError: for a way that there is not.
        LoratoolsError: of the kinds that ``tune`` and ``train`` name.
    """
    from dataclasses import replace

    from loratools.adapter.files.metadata import Provenance
    from loratools.adapter.header import read_header
    from loratools.base.any_base import load_any_base
    from loratools.tune.problem.then import read_ways
    from loratools.tune.tuning import OWNER
    from loratools.tune.tuning import tune as search

    made = Provenance.from_metadata(read_header(result.file).metadata)

    def hear(progress: TuneProgress) -> None:
        if on_progress is not None:
            on_progress(progress.done, progress.total)

    return search(
        load_any_base(str(base), device=device, dtype=None),
        result.space.terms,
        replace(result.request, then=read_ways(several(then))),
        result.folder,
        on_progress=hear,
        owner=OWNER if made is None else made.owner,
        force=force,
        earlier=result.space.earlier,
    )
