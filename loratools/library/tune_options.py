"""What a tune and a verdict over epochs may be told beyond what is to be repaired, or judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from loratools.library.options import OneOrMore, StrPath
from loratools.tune.problem.weight_range import HIGHEST, LOWEST

if TYPE_CHECKING:
    from loratools.measures.request import MeasureRequest
    from loratools.preview.request.request import SamplingRequest
    from loratools.tune.problem.request import TuneRequest


@dataclass(frozen=True)
class TuneOptions:
    """How a tune searches, draws and reads; what is left out is what ``blocks tune`` does by itself.

    Args:
        seeds: of the search's pictures, by default as many as it needs; the report has others.
        keep: the share of the style that has to stay.
        lowest, highest: how far a block's weight may go; 0 and 1.4 are what people write.
        method: ``gradient`` (of the judge, marks or votes), ``pictures`` (drawn and measured), or ``auto``.
        parts: what has a number: ``blocks``, ``kinds`` of layers within each block, or ``auto``, kinds by a gradient.
        amount: search the amount of the subtracted LoRA as well.
        epochs_by_block: an earlier epoch of the tuned run; search how much of each block comes from it as well.
        quick: draw a third of the pictures.
        budget: seconds after which the best so far is reported.
        then: ways to go on from what was found, in order: ``picks``, ``defect-lora``, ``search``.
        seed: of the search's own choices.
        training: the folder of the training pictures, which some measures look at.
        votes: what a page of this tune exported, where it was not saved beside that page.
        batch: pictures at once.
        dtype: compute type ``fp32``, ``fp16`` or ``bf16``; the device's usual one where None.
        missing: weight of the modules in blocks that a short vector does not list; None makes them an error.
        allow_unknown, drop: as for ``read``.
    """

    seeds: Sequence[int] = ()
    keep: float = 0.95
    lowest: float = LOWEST
    highest: float = HIGHEST
    method: str = "auto"
    parts: str = "auto"
    amount: bool = False
    epochs_by_block: int | None = None
    quick: bool = False
    budget: float | None = None
    then: OneOrMore = ()
    seed: int = 1
    training: StrPath | None = None
    votes: StrPath | None = None
    batch: int = 8
    dtype: str | None = None
    missing: float | None = None
    allow_unknown: bool = False
    drop: OneOrMore = ()

    def request(
        self, symptoms: OneOrMore, prompts: OneOrMore, measures: Sequence[MeasureRequest], sampling: SamplingRequest
    ) -> TuneRequest:
        """What is to be repaired, searched in this way.

        Args:
            prompts: prompts, or files of them.
            measures: none for the judge.
        Raises:
            TuneError, PromptError, MeasureError: for what makes no sense.
        """
        from pathlib import Path

        from loratools.library.options import several
        from loratools.measures.request import MeasureRequest
        from loratools.preview.request.read_prompts import read_prompts
        from loratools.tune.problem.effort import FULL, QUICK
        from loratools.tune.problem.request import TuneRequest, sorted_symptoms
        from loratools.tune.problem.then import read_ways
        from loratools.tune.problem.weight_range import WeightRange

        return TuneRequest(
            symptoms=sorted_symptoms(several(symptoms)),
            prompts=tuple(read_prompts(several(prompts), lambda text: Path(text) if Path(text).is_file() else None)),
            measures=tuple(measures) or (MeasureRequest("judge"),),
            seeds=tuple(self.seeds),
            keep=self.keep,
            amount=self.amount,
            effort=QUICK if self.quick else FULL,
            budget=self.budget,
            seed=self.seed,
            sampling=sampling,
            training=None if self.training is None else Path(self.training),
            batch=self.batch,
            then=read_ways(several(self.then)),
            weights=WeightRange(self.lowest, self.highest),
            method=self.method,
            parts=self.parts,
        )


@dataclass(frozen=True)
class EpochsOptions:
    """How epochs are drawn and looked at for a verdict.

    Args:
        weight: of the LoRA, at which epochs are compared.
        score_model: a folder with a CLIP, which says how well prompts are obeyed, or a DINO, which sees copies.
        batch: pictures at once.
        dtype: compute type ``fp32``, ``fp16`` or ``bf16``; the device's usual one where None.
    """

    weight: float = 1.0
    score_model: StrPath | None = None
    batch: int = 8
    dtype: str | None = None
