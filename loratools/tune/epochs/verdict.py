"""The verdict over a run's epochs: draw, measure, decide, and write ``NAME.verdict.json``.

>>> verdict = epoch_verdict(VerdictRequest(Path("runs/ink"), "pocket"))
>>> verdict.decision.sentence
'epoch 6: 7 and 8 are as good within noise, 9 copies 014.png (5 of 32 pictures)'
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from loratools.adapter.files.epoch_files import epochs
from loratools.adapter.files.lora_file import STRICT, KeyRules
from loratools.errors import FormatError, MeasureError, OptionError
from loratools.files import write_text
from loratools.measures.build import check_measures
from loratools.measures.features import load_features
from loratools.measures.request import MeasureRequest
from loratools.preview.request.options import EngineOptions
from loratools.preview.request.request import ModelRequest, SamplingRequest
from loratools.preview.session import Session
from loratools.preview.sheet.write import VOTES
from loratools.train.output.recorded_verdict import epoch_digest, read_verdict
from loratools.tune.epochs.decide import Evidence, decide
from loratools.tune.epochs.evaluation_set import EvaluationRequest, EvaluationSet, evaluation_set
from loratools.tune.epochs.logged import ValidationLosses, VoteRanking, validation_losses, vote_ranking
from loratools.tune.epochs.measured import MeasuredEpochs, measure_epochs
from loratools.tune.epochs.pictures import Drawing, DrawnEpochs, OnPicture, draw_epochs
from loratools.tune.epochs.plot import FIGURES, plot
from loratools.tune.epochs.reasons import counted
from loratools.tune.epochs.report import verdict_json
from loratools.tune.epochs.result import EpochVerdict, RunFiles
from loratools.tune.epochs.sheet import draw_sheet

PICTURES = 32  # about so many of an epoch, where seeds are not given
_SEEDS = (2, 8)  # at least and at most


@dataclass(frozen=True)
class VerdictRequest:
    """Which run is judged on which base, and how.

    Args:
        run: the folder, or ``FOLDER/NAME`` where a folder holds several.
        base: a name for :func:`loratools.base.load.load_base`.
        material: prompts and pictures that are named; what is not is found in the run's header.
        seeds: by default as many, from 1, as make some 32 pictures an epoch.
        weight: of the LoRA in the pictures that are compared.
        measures: see :func:`loratools.tune.epochs.measured.measure_epochs`.
        model: a folder with a CLIP or DINO in transformers' format, see there.
        votes: a ``votes.json``; by default that of the pictures' own folder, if there is one.
        force: overwrite a verdict or pictures that this run did not write.
    """

    run: Path
    base: str
    material: EvaluationRequest = field(default_factory=EvaluationRequest)
    seeds: tuple[int, ...] = ()
    weight: float = 1.0
    sampling: SamplingRequest = field(default_factory=SamplingRequest)
    engine: EngineOptions = field(default_factory=EngineOptions)
    measures: tuple[MeasureRequest, ...] | None = None
    model: Path | None = None
    votes: Path | None = None
    device: str = "auto"
    dtype: str | None = None
    keys: KeyRules = STRICT
    force: bool = False


def epoch_verdict(
    request: VerdictRequest,
    *,
    progress: bool = False,
    on_picture: OnPicture | None = None,
    on_note: Callable[[str], None] | None = None,
    session: Session | None = None,
) -> EpochVerdict:
    """Draw and measure the epochs of a run, recommend one, and write it beside them.

    Pictures stay in ``NAME-verdict`` and are found there by what made them, so that work that was stopped goes on, and
    another question about the same pictures costs none.

    Args:
        progress: show a bar on stderr.
        on_picture: called with (done, all) after every batch.
        on_note: called with each thing that a person should know, before anything is drawn.
        session: of the process, where it draws with the base before or after.
    Raises:
        LoratoolsError: for a run, a base, pictures, prompts or a measure that cannot be used.
    """
    from loratools.adapter.files.checkpoint import open_checkpoint
    from loratools.base.base_path import base_path, locate_base

    files = RunFiles(tuple(epochs(request.run)))
    _guard(files, request.force)
    votes = _votes(files, request.votes)
    features = load_features(request.model) if request.model is not None else None
    locate_base(request.base)
    if not request.weight > 0:
        raise OptionError(
            f"a weight of {request.weight:g} compares nothing; epochs are drawn at one above 0, such as 1"
        )
    measures = _measures(request, files, votes)
    material = evaluation_set(files.epochs, request.material)
    seeds = request.seeds or default_seeds(len(material.prompts))
    if on_note is not None:
        for note in (*material.notes, _asked(files, material, seeds)):
            on_note(note)
    digests = tuple(map(epoch_digest, files.epochs))
    with contextlib.nullcontext(session) if session is not None else Session() as kept:
        base = kept.load(request.base, ModelRequest(device=request.device, dtype=request.dtype))
        drawing = Drawing(
            files.pictures,
            material.prompts,
            seeds,
            request.weight,
            request.sampling,
            request.engine,
            owner=f"epochs:{files.name}",
            keys=request.keys,
            base_weights=lambda: open_checkpoint(base_path(request.base)),
            force=request.force,
            progress=progress,
            on_picture=on_picture,
            session=kept,
        )
        drawn = draw_epochs(base, files.name, files.epochs, drawing)
        kept.close_drawer()  # measures need its memory
        measured = measure_epochs(base, drawn, material, measures, features)
    losses = validation_losses(files.epochs)
    evidence = _evidence(files, drawn, measured, losses, votes)
    verdict = EpochVerdict(
        files,
        digests,
        (base.name, base.digest),
        material,
        seeds,
        request.weight,
        drawn,
        measured,
        losses.figure,
        votes,
        evidence,
        decide(evidence),
    )
    draw_sheet(verdict)
    plot(verdict, files.pictures / FIGURES)
    _write(verdict)
    return verdict


def default_seeds(prompts: int) -> tuple[int, ...]:
    """Seeds from 1, as many as make about :data:`PICTURES` pictures an epoch, but at least two."""
    fewest, most = _SEEDS
    return tuple(range(1, 1 + min(most, max(fewest, round(PICTURES / prompts)))))


def _measures(request: VerdictRequest, files: RunFiles, votes: VoteRanking | None) -> tuple[MeasureRequest, ...] | None:
    """What is measured beside votes, which need no measure; checked before anything is drawn."""
    if request.measures is None:
        return None
    if votes is None and any(own.kind == "votes" for own in request.measures):
        page = files.pictures / "grid.html"
        raise MeasureError(
            f"there are no votes to measure by; draw the epochs without `measures=votes`, judge pairs in {page}, and "
            f"export them with the key E into {files.pictures}"
        )
    measures = tuple(own for own in request.measures if own.kind != "votes")
    check_measures(measures, request.base)
    return measures


def _evidence(
    files: RunFiles,
    drawn: DrawnEpochs,
    measured: MeasuredEpochs,
    losses: ValidationLosses,
    votes: VoteRanking | None,
) -> Evidence:
    """What the rule looks at; the loss of held-out pictures stands in for a closeness that nothing measures."""
    return Evidence(
        numbers=tuple(epoch.number for epoch in files.epochs),
        tested=drawn.tested,
        copies=measured.copies(),
        votes=votes,
        closeness=measured.closeness or (losses.figure if losses.held_out else None),
        obedience=measured.obedience,
        defects=measured.defects,
        diversity=measured.diversity,
    )


def _asked(files: RunFiles, material: EvaluationSet, seeds: tuple[int, ...]) -> str:
    """How much there is to draw, unless an epoch breaks and is drawn at 0.9 as well."""
    prompts, count = len(material.prompts), len(files.epochs)
    shots = f"{counted(prompts, 'prompt')} ({material.source}) x {counted(len(seeds), 'seed')}"
    return (
        f"{prompts * len(seeds) * (count + 1)} pictures: {shots}, of the base and of {counted(count, 'epoch')}; those "
        "that are there are used again"
    )


def _guard(files: RunFiles, force: bool) -> None:
    """Raise if what stands where the verdict goes is none, before any work is done."""
    try:
        read_verdict(files.epochs)
    except FormatError:
        if not force:
            raise


def _votes(files: RunFiles, given: Path | None) -> VoteRanking | None:
    """The votes that are named, or those exported into the pictures' own folder; None without any."""
    own = files.pictures / VOTES
    if given is not None:
        return vote_ranking(given, files.name, files.epochs)
    return vote_ranking(own, files.name, files.epochs) if own.is_file() else None


def _write(verdict: EpochVerdict) -> None:
    text = json.dumps(verdict_json(verdict), indent=1, ensure_ascii=False, allow_nan=False)
    write_text(verdict.path, text + "\n")
