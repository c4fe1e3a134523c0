"""What pictures decide: which epoch of a run to take."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from loratools.library.options import OneOrMore, StrPath, key_rules, several
from loratools.progress import OnProgress

if TYPE_CHECKING:
    from loratools.preview.request.request import SamplingRequest
    from loratools.train.callbacks.records import OnNote
    from loratools.tune.epochs.result import EpochVerdict


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
