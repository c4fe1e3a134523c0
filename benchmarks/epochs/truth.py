"""What the judge says of every epoch on 200 pictures that no verdict saw, and who chose which epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.epochs.cases import Case
from loratools.adapter.files.epoch_files import Epoch
from loratools.adapter.files.file import read
from loratools.base.model import Base
from loratools.measures.estimate import Estimate, estimate, paired_difference
from loratools.measures.judged import judge_measures
from loratools.measures.measure import Shown
from loratools.preview.plan.jobs import Stack, content_keys_of
from loratools.preview.record.cells import SamplingSettings
from loratools.preview.render.population import PictureJob, PopulationRenderer
from loratools.preview.request.options import EngineOptions
from loratools.train.output.epoch_report import FOLK_BAND, report

Values = npt.NDArray[np.float64]
_BATCH = {"cuda": 200, "cpu": 8}  # by device: a GPU draws an epoch's pictures at once
_NOISE = 2.0  # standard errors: further behind the best is not within noise
WORST_GRADE = 3.0


@dataclass(frozen=True, eq=False)
class Truth:
    """``style``, ``tags`` and ``defects`` (1 + epochs, pictures), the base first; prompt and seed of each picture."""

    style: Values
    tags: Values
    defects: Values
    prompts: tuple[str, ...]
    seeds: tuple[int, ...]

    @property
    def value(self) -> Values:
        """What a picture is worth: the style's probability x the share of tags obeyed x (1 - mean grade / 3)."""
        worth: Values = self.style * self.tags * (1 - self.defects / WORST_GRADE)
        return worth

    @property
    def best(self) -> int:
        """Index of the epoch worth most, from 0."""
        return int(self.value[1:].mean(1).argmax())

    def behind(self, epoch: int) -> Estimate:
        """By how much an epoch is worth less than the best, picture by picture."""
        own = self.value[1:]
        return paired_difference(own[self.best], own[epoch], self.prompts, self.seeds)

    def within_noise(self, epoch: int) -> bool:
        """Whether it is not behind the best by more than two standard errors."""
        behind = self.behind(epoch)
        return epoch == self.best or behind.mean <= _NOISE * behind.standard_error

    def from_as_good(self, epoch: int) -> int:
        """Epochs to the nearest one that is as good as the best: within one standard error of it."""
        epochs = range(len(self.value) - 1)
        good = [own for own in epochs if self.behind(own).mean <= self.behind(own).standard_error or own == self.best]
        return min(abs(epoch - own) for own in good)

    def json(self) -> dict[str, Any]:
        """Means and errors of every epoch, the base first."""
        return {
            name: [_pair(estimate(row, self.prompts, self.seeds)) for row in rows]
            for name, rows in (
                ("value", self.value),
                ("style", self.style),
                ("tags", self.tags),
                ("defects", self.defects),
            )
        }


def judged_truth(base: Base, run: Sequence[Epoch], case: Case) -> Truth:
    """Draw and judge the base and every epoch at weight 1."""
    jobs = case.truth_jobs()
    adapters = [read(epoch.path) for epoch in run]
    stacks = [Stack({}), *(Stack(own, 1.0, own.digest, content_keys_of(own)) for own in adapters)]
    settings = SamplingSettings(base.defaults.steps, base.defaults.cfg, base.defaults.sampler, base.resolution)
    asked = [PictureJob(prompt, seed, settings) for prompt, seed in jobs]
    measures = judge_measures(case.style).by_name
    read_by: Mapping[str, list[Values]] = {"style": [], "tags": [], "defects": []}
    with PopulationRenderer(base, EngineOptions(batch=_BATCH[base.device.type])) as renderer:
        drawn = renderer.draw(stacks, asked)
        for _ in stacks:
            pictures = [Shown(next(drawn).pixels, prompt, seed) for prompt, seed in jobs]
            for name, rows in read_by.items():
                rows.append(measures[name](pictures))
        drawn.close()
    figures = {name: np.stack(rows) for name, rows in read_by.items()}
    return Truth(**figures, prompts=tuple(prompt for prompt, _ in jobs), seeds=tuple(seed for _, seed in jobs))


def folk_choices(run: Path) -> dict[str, int]:
    """The epochs, by number, that rules without pictures take."""
    facts = report(run)
    losses = {own.number: own.loss for own in facts.epochs if own.loss is not None}
    low, high = FOLK_BAND
    within = [number for number, loss in losses.items() if low <= loss <= high]
    middle = (low + high) / 2
    nearest = min(losses, key=lambda number: abs(losses[number] - middle))
    return {
        "lowest validation loss": facts.shortlist[0].number,
        "lowest training loss": min(losses, key=lambda number: losses[number]),
        "loss of 0.07 to 0.09": within[0] if within else nearest,
        "last epoch": facts.epochs[-1].number,
    }


def scored(truth: Truth, numbers: Sequence[int], choices: Mapping[str, int]) -> dict[str, dict[str, Any]]:
    """Each choice: how many epochs from the best, and how much less it is worth."""
    scores = {}
    for name, number in choices.items():
        index = list(numbers).index(number)
        scores[name] = {
            "epoch": number,
            "from_best": index - truth.best,
            "from_as_good": truth.from_as_good(index),
            "behind": _pair(truth.behind(index)),
            "within_noise": truth.within_noise(index),
        }
    return scores


def _pair(value: Estimate) -> list[float]:
    return [round(value.mean, 5), round(value.standard_error, 5)]
