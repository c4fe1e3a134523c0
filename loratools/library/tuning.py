"""What pictures decide: which block vector repairs a LoRA, and which epoch of a run to take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from loratools.library.options import OneOrMore, PresetSource, StrPath, key_rules, several
from loratools.library.terms import TermReading, short_terms
from loratools.library.tune_options import EpochsOptions, TuneOptions
from loratools.progress import OnProgress

if TYPE_CHECKING:
    from loratools.ops.merging.terms import Term
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
    options: EpochsOptions | None = None,
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
        measures: of defects: ``judge``, which is the default on the pocket base, ``like=DIR`` with ``unlike=DIR``,
            ``python=MODULE:FUNCTION`` or ``command=COMMAND``.
        votes: a file of votes that a grid's page exported.
        options: ``EpochsOptions(weight=0.8, score_model="clip")``.
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
    from loratools.preview.request.options import EngineOptions
    from loratools.preview.request.request import SamplingRequest
    from loratools.tune.epochs.evaluation_set import EvaluationRequest
    from loratools.tune.epochs.verdict import VerdictRequest, epoch_verdict

    own = options or EpochsOptions()
    request = VerdictRequest(
        run=Path(run),
        base=str(base),
        material=EvaluationRequest(
            prompts=several(prompts),
            images=tuple(map(Path, several(training_images))),
            held_out=tuple(map(Path, several(held_out))),
        ),
        seeds=tuple(seeds),
        weight=own.weight,
        sampling=sampling or SamplingRequest(),
        engine=EngineOptions(own.batch),
        model=None if own.score_model is None else Path(own.score_model),
        dtype=own.dtype,
        measures=parse_measures(several(measures)) or None,
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
    options: TuneOptions | None = None,
    sampling: SamplingRequest | None = None,
    lora_dirs: OneOrMore = (),
    presets: PresetSource | None = None,
    device: str = "auto",
    force: bool = False,
    on_progress: OnProgress | None = None,
    on_note: OnNote | None = None,
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
        options: how it searches, draws and reads: ``TuneOptions(quick=True, lowest=0, highest=1.4, budget=600)``.
        sampling: of the report's pictures: ``SamplingRequest(steps=20, cfg=7)``; None takes the base's own.
        lora_dirs, presets: as for ``merge``.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        force: overwrite what something else wrote.
        on_progress: called as ``on_progress(pictures done, all pictures)`` after each picture.
        on_note: called with a sentence for each thing that one should know before the end.
    Returns:
        The ``file``, the ``sheet``, and figures of before and after; ``text()`` for a person, and ``json()``.
    Raises:
        TuneError, PromptError, MeasureError: if there is nothing to search, or to search by.
        AnswersWantedError: where a person is asked: ``page`` waits for answers, which belong into ``answers``; then the
            same call goes on. A result whose ``waiting`` is not empty asks for more, which may be left.
        LoratoolsError: of the kinds that ``merge`` and ``render_grid`` name.
    """
    from loratools.base.any_base import load_any_base
    from loratools.measures.request import parse_measures
    from loratools.preview.request.request import SamplingRequest
    from loratools.tune.tuning import OWNER
    from loratools.tune.tuning import tune as run

    own = options or TuneOptions()
    request = own.request(symptoms, prompts, parse_measures(several(measures)), sampling or SamplingRequest())
    reading = TermReading(lora_dirs, presets, own.missing, allow_unknown=own.allow_unknown, drop=own.drop)
    return run(
        load_any_base(str(base), device=device, dtype=own.dtype),
        reading.terms(terms),
        request,
        Path(out),
        on_progress=_heard(on_progress),
        on_note=on_note,
        owner=f"{OWNER} {short_terms(terms)}",
        force=force,
        earlier=None if own.epochs_by_block is None else earlier_epoch(terms, own.epochs_by_block, reading),
        votes=None if own.votes is None else Path(own.votes),
    )


def earlier_epoch(terms: str, epoch: int, reading: TermReading) -> Term:
    """An earlier epoch of the run whose blocks are tuned.

    Raises:
        TuneError: where nothing has a positive weight.
        LoratoolsError: where what is tuned is no run, or has no such epoch.
    """
    from dataclasses import replace

    from loratools.errors import TuneError
    from loratools.ops.merging.merge_string import typed_merge_string

    spec = next((spec for spec in typed_merge_string(terms) if spec.weight > 0), None)
    if spec is None:
        raise TuneError("nothing here has a positive weight, so there is no LoRA to tune")
    (term,) = reading.resolved([replace(spec, epoch=str(epoch), vector_text=None)])
    return term


def _heard(on_progress: OnProgress | None) -> Callable[[TuneProgress], None]:
    def hear(progress: TuneProgress) -> None:
        if on_progress is not None:
            on_progress(progress.done, progress.total)

    return hear


def tune_further(
    result: TuneResult,
    then: OneOrMore,
    *,
    base: StrPath,
    dtype: str | None = None,
    device: str = "auto",
    force: bool = False,
    on_progress: OnProgress | None = None,
    on_note: OnNote | None = None,
) -> TuneResult:
    """Go on from what :func:`tune` found: the same folder, with ways that train on its pictures.

    What a way makes is the answer where held-out pictures say that it is better; else the answer stays.

    Args:
        result: what ``tune`` returned; nothing of its search is drawn again.
        then: ways, in order: ``picks`` trains on with the LoRA's best pictures, ``defect-lora`` subtracts what its bad
            ones teach, ``search`` searches again.
        base: the one that the LoRA was tuned on, and ``dtype`` the type that it was tuned in, where that was given.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        force: overwrite what something else wrote.
        on_progress: called as ``on_progress(pictures done, all pictures)`` after each picture.
        on_note: called with a sentence for each thing that one should know before the end.
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

    return search(
        load_any_base(str(base), device=device, dtype=dtype),
        result.space.terms,
        replace(result.request, then=read_ways(several(then))),
        result.folder,
        on_progress=_heard(on_progress),
        on_note=on_note,
        owner=OWNER if made is None else made.owner,
        force=force,
        earlier=result.space.earlier,
    )
