"""One step of a descent: a batch of pictures, what it is worth, and which way is better for every number at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from time import monotonic

import numpy as np
import torch
from torch import Tensor

from loratools.base.to_device import release_cache
from loratools.errors import TuneError
from loratools.measures.smooth import SmoothBatch
from loratools.train.distributed import Ranks
from loratools.tune.arrays import Array
from loratools.tune.descent.objective import Objective
from loratools.tune.descent.pictures import SmoothPictures
from loratools.tune.descent.steps import Step
from loratools.tune.problem.prompts import Shot

_HALF_SCALE = 1024.0  # the objective's factor where gradients flow through float16, in which small ones are lost


class Descent:
    """Makes steps; all processes of ``ranks`` make the same ones, and each draws its share of the pictures.

    Args:
        batch: pictures that go through the network at once. Where memory runs out, activations are computed again
            instead of kept; where that does not do, the batch is halved.
        say: called with a sentence then.
    """

    def __init__(
        self, pictures: SmoothPictures, objective: Objective, batch: int, ranks: Ranks, say: Callable[[str], None]
    ) -> None:
        self._pictures, self._objective, self._batch, self._ranks, self._say = pictures, objective, batch, ranks, say
        self._keep = pictures.base.device.type != "cpu"  # whose memory is what is short there

    def step(self, point: Array, shots: Sequence[Shot], means: Mapping[str, float]) -> Step:
        """Draw ``shots`` at ``point`` and say what they are worth.

        Args:
            means: what the last pictures were worth, by measure.
        Raises:
            TuneError: for a gradient that is no number, or memory that does not hold one picture.
        """
        begun = monotonic()
        first, last = self._ranks.rows(len(shots))
        names = [goal.name for goal in self._objective.goals.measures]
        sums = torch.zeros(len(point) + 2 * len(names), dtype=torch.float64)
        own, full = list(shots[first:last]), False
        while own and not full:
            part = own[: self._batch]
            try:
                sums += self._part(point, part, means, names)
            except torch.OutOfMemoryError:
                full = not self._smaller()
                continue
            own = own[len(part) :]
        if self._ranks.any(full):  # of all processes, none of which may wait for one that has given up
            raise TuneError(
                "the gradient of one picture does not fit the device's memory; use a smaller `size=`, or search by "
                "pictures alone with `method=pictures`"
            )
        self._sum(sums)
        gradient = sums[: len(point)] / len(shots)
        totals, counts = sums[len(point) :].reshape(2, len(names))
        if not torch.isfinite(sums).all():
            raise TuneError(
                "the gradient of the pictures is no number, as happens in fp16; use `dtype=bf16` or fp32, or search by "
                "pictures alone with `method=pictures`"
            )
        values = {name: float(total / count) for name, total, count in zip(names, totals, counts, strict=True) if count}
        at = tuple(float(value) for value in point)
        return Step(at, tuple(gradient.tolist()), values, round(monotonic() - begun, 2))

    def _part(self, point: Array, shots: Sequence[Shot], means: Mapping[str, float], names: Sequence[str]) -> Tensor:
        """The sums over some pictures: of the gradient, of each measure's values, and of how many it could tell."""
        base = self._pictures.base
        numbers = torch.tensor(np.asarray(point), dtype=torch.float32, device=base.device, requires_grad=True)
        images = self._pictures(numbers, shots, keep=self._keep)
        values = self._objective.values(SmoothBatch(images, [shot.prompt for shot in shots]))
        scale = _HALF_SCALE if base.dtype == torch.float16 else 1.0
        (gradient,) = torch.autograd.grad(scale * self._objective.total(values, means), [numbers])
        every = torch.stack([values[name].detach().cpu().double() for name in names])
        known = ~every.isnan()
        summed = torch.cat([every.where(known, torch.zeros(())).sum(1), known.double().sum(1)])
        return torch.cat([gradient.cpu().double() * (len(shots) / scale), summed])

    def _sum(self, sums: Tensor) -> None:
        """Over all processes."""
        if self._ranks.world > 1:
            there = sums.to(self._pictures.base.device)
            self._ranks.sum(there)
            sums.copy_(there)

    def _smaller(self) -> bool:
        """Take less memory from now on: activations computed again, then half of the pictures; False where one picture
        is too much."""
        release_cache(self._pictures.base.device)
        if self._keep:
            self._keep = False
        elif self._batch == 1:
            return False
        else:
            self._batch //= 2
            self._say(f"memory ran out; the gradient goes on with {self._batch} pictures at once")
        return True
