"""What a tune is asked for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from loratools.errors import TuneError, did_you_mean
from loratools.measures.request import MeasureRequest, check_symptom
from loratools.preview.request.request import SamplingRequest
from loratools.tune.problem.effort import FULL, JUDGED, SEEN, Effort
from loratools.tune.problem.then import check_ways
from loratools.tune.problem.weight_range import WeightRange

AUTO, GRADIENT, PICTURES, BLOCKS, KINDS = "auto", "gradient", "pictures", "blocks", "kinds"
METHODS, PARTS = (AUTO, GRADIENT, PICTURES), (AUTO, BLOCKS, KINDS)
_SEARCH = 7  # raised when the same request begins to lead another search


@dataclass(frozen=True)
class TuneRequest:
    """What is to be repaired, and by which pictures.

    Args:
        symptoms: some of :data:`loratools.measures.request.SYMPTOMS`.
        prompts: parted into those of the search and those of the report; without any they are made of the tags in the
            LoRA's header.
        measures: what leads the search; the judge by default, which reads the pocket base's pictures alone.
        seeds: of the search's pictures, by default as many as ``effort`` wants; the report has others.
        keep: share of the style that must stay.
        amount: search the amount of the subtracted LoRA as well.
        effort: how much is drawn.
        budget: seconds for all of it; None for as long as ``effort`` takes.
        seed: of the search's own choices.
        sampling: of the report's pictures; those of the search take fewer steps.
        training: the folder of the training pictures, which some measures look at.
        batch: pictures a UNet call.
        then: ways to go on from what the search found, in order; see :mod:`loratools.tune.then`.
        weights: how far a block's weight may go.
        method: what leads the search: ``gradient`` (of the measures, which have to be smooth), ``pictures`` (drawn and
            measured), or ``auto``, the gradient where the judge alone leads.
        parts: what has a number of its own: ``blocks``, ``kinds`` of layers within each block, or ``auto``, kinds where
            the gradient leads.
    Raises:
        TuneError: for a share, a budget or a seed that makes no sense, no symptom, or a way, a method or parts that
            there are not.
        MeasureError: for an unknown symptom.
    """

    symptoms: tuple[str, ...]
    prompts: tuple[str, ...] = ()
    measures: tuple[MeasureRequest, ...] = (MeasureRequest("judge"),)
    seeds: tuple[int, ...] = ()
    keep: float = 0.95
    amount: bool = False
    effort: Effort = FULL
    budget: float | None = None
    seed: int = 1
    sampling: SamplingRequest = field(default_factory=SamplingRequest)
    training: Path | None = None
    batch: int = 8
    then: tuple[str, ...] = ()
    weights: WeightRange = field(default_factory=WeightRange)
    method: str = AUTO
    parts: str = AUTO

    def __post_init__(self) -> None:
        for symptom in self.symptoms:
            check_symptom(symptom)
        if not self.symptoms:
            raise TuneError("a tune needs a symptom, such as hands")
        if not 0 < self.keep <= 1:
            raise TuneError(f"keep {self.keep:g} is no share of the style; give a number above 0 up to 1, such as 0.95")
        if self.budget is not None and not (math.isfinite(self.budget) and self.budget > 0):
            raise TuneError(f"a budget of {self.budget:g} seconds is no time; give one such as 10m")
        if self.seed < 0:
            raise TuneError(f"the search's own seed {self.seed} is none; give a whole number from 0")
        check_ways(self.then)
        _check_choice("method", self.method, METHODS)
        _check_choice("parts", self.parts, PARTS)

    @property
    def by_gradient(self) -> bool:
        """Whether the gradient leads the search, if the base has a UNet and no earlier epoch is blended in. Where
        nobody says so it leads by the judge alone, by which it is measured."""
        return self.method == GRADIENT or (self.method == AUTO and all(own.kind == "judge" for own in self.measures))

    @property
    def gradient_cost(self) -> int:
        """Pictures of the search that one with its gradient costs."""
        return JUDGED if all(own.kind == "judge" for own in self.measures) else SEEN

    def search_pictures(self, pool: int, fresh: int) -> int:
        """How many pictures the search draws at most; one with its gradient counts for several.

        Args:
            pool, fresh: shots of the search, and of the last choice.
        """
        if self.by_gradient:
            return self.effort.descent_pictures(pool, fresh, self.gradient_cost)
        return self.effort.search_pictures(pool, fresh)

    def facts(self) -> dict[str, Any]:
        """All that decides what the search does, beyond rounding, as JSON values; what comes after it does not."""
        return {
            "search": _SEARCH,
            "symptoms": list(self.symptoms),
            "prompts": list(self.prompts),
            "measures": [measure.text for measure in self.measures],
            "seeds": list(self.seeds),
            "keep": self.keep,
            "amount": self.amount,
            **self.weights.facts(),
            "method": self.method,
            "parts": self.parts,
            "effort": asdict(self.effort),
            "seed": self.seed,
            "sampling": self.sampling.facts(),
        }


def _check_choice(option: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        near = did_you_mean(value, choices)
        raise TuneError(f"{option} '{value}' is none of {', '.join(choices)}{near}")


def parse_duration(text: str) -> float:
    """``10m``, ``90s``, ``1h30m`` or seconds as a number.

    Raises:
        TuneError: if it is none of these.
    """
    import re

    match = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?", text.strip().lower())
    if match is None or not any(match.groups()):
        raise TuneError(f"'{text}' is no length of time; write 10m, 90s or 1h30m")
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return 3600 * hours + 60 * minutes + seconds


def sorted_symptoms(symptoms: Sequence[str]) -> tuple[str, ...]:
    """Each once, in small letters, as they were first named."""
    return tuple(dict.fromkeys(symptom.strip().lower() for symptom in symptoms))
