"""What a descent makes less: the cost of the targets, and of constraints that are near their bound."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from loratools.measures.measure import Shown
from loratools.measures.smooth import SmoothBatch, SmoothMeasure
from loratools.tune.problem.goals import STYLE, Constraint, Goals, Target, known_mean


@dataclass(frozen=True)
class _Pull:
    """How hard a constraint pulls: ``most`` far below its bound, half of it ``margin`` above, nothing where it is kept
    by several ``width``; in units of the constraint's scale."""

    most: float
    margin: float
    width: float

    def at(self, worth: float) -> float:
        """The weight of a constraint that is kept by ``worth``."""
        return self.most / (1 + math.exp(min(50.0, max(-50.0, (worth - self.margin) / self.width))))


_STYLE = _Pull(8.0, 0.005, 0.015)
_OTHER = _Pull(3.0, 0.02, 0.05)


@dataclass(frozen=True, eq=False)
class Objective:
    """The goals of a search for the stand-ins of its measures.

    A stand-in may lie above or below the figure that it stands for; ``shifts`` are by how much it lies below on the
    whole LoRA's pictures, so that bounds mean the same of both.
    """

    goals: Goals
    measures: Mapping[str, SmoothMeasure]
    shifts: Mapping[str, float]

    @staticmethod
    def of(goals: Goals, measures: Mapping[str, SmoothMeasure], whole: Sequence[Shown], batch: int = 8) -> Objective:
        """The objective of ``goals``.

        Args:
            whole: the whole LoRA's pictures, on which stand-ins are compared with their figures, ``batch`` at once.
        """
        rough = {goal.name for goal in goals.measures if not measures[goal.name].exact}
        below: dict[str, list[float]] = {name: [] for name in rough}
        for start in range(0, len(whole) if rough else 0, batch):
            part = whole[start : start + batch]
            pixels = np.stack([picture.pixels for picture in part])
            images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
            drawn = SmoothBatch(images, [picture.prompt for picture in part])
            for name in rough:
                with torch.no_grad():
                    smooth = measures[name].smooth(drawn).cpu().double().numpy()
                below[name] += (measures[name](part) - smooth).tolist()
        shifts = {name: mean for name, own in below.items() if not math.isnan(mean := known_mean(own))}
        return Objective(goals, measures, {goal.name: shifts.get(goal.name, 0.0) for goal in goals.measures})

    def values(self, drawn: SmoothBatch) -> dict[str, Tensor]:
        """Measure -> (n,) for pictures; NaN where it cannot tell."""
        return {
            goal.name: self.measures[goal.name].smooth(drawn) + self.shifts[goal.name] for goal in self.goals.measures
        }

    def total(self, values: Mapping[str, Tensor], means: Mapping[str, float]) -> Tensor:
        """The mean over a batch of what is to become less.

        Args:
            values: of the batch.
            means: of the last batches, by which constraints pull: one batch is too few pictures to tell.
        """
        costs = [_signed(target, values[target.name], "lower") for target in self.goals.targets]
        total = torch.stack(costs).mean()
        for constraint in self.goals.constraints:
            pull = _STYLE if constraint.name == STYLE else _OTHER
            weight = pull.at(float(constraint.worth([means[constraint.name]])[0]))
            total = total - weight * _signed(constraint, values[constraint.name], "higher")
        return total


def _signed(goal: Target | Constraint, values: Tensor, better: str) -> Tensor:
    """The mean of ``values`` in the goal's units, turned round unless its better end is ``better``; 0 where none can
    be told."""
    sign = 1.0 if goal.better == better else -1.0
    known = ~values.isnan()
    mean = torch.where(known, values, 0).sum() / known.sum().clamp(min=1)
    return sign * mean / goal.scale
