"""A formula of :mod:`loratools.base.sampling.k_samplers` in the place of a diffusers scheduler."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from loratools.base.sampling.k_samplers import KSampler, NoiseSampler, Solver
from loratools.base.sampling.sigmas import timesteps_of


class KScheduler:
    """The formula's calls in order. Where they lie is known beforehand, from a walk without pictures.

    Args:
        training: the base's sigmas (t,), rising with time.
        levels: the run's (n + 1,), falling.
        prediction: what the UNet predicts, ``epsilon`` or ``v_prediction``.
        told: the times that the UNet may be told; every one of training's, and between them, by default.
        brownian: whether the formula's noise is that of a Brownian path over the levels.
    """

    def __init__(
        self,
        formula: KSampler,
        training: Tensor,
        levels: Tensor,
        prediction: str,
        *,
        told: Tensor | None = None,
        brownian: bool = False,
    ) -> None:
        self._formula, self._prediction = formula, prediction
        self._levels = levels.float().tolist()  # as the WebUI rounds them
        self.brownian = (min(level for level in self._levels if level > 0), self._levels[0]) if brownian else None
        self.init_noise_sigma = self._levels[0]
        self.sigmas = model_sigmas(formula, self._levels)
        wanted = torch.tensor(self.sigmas, dtype=torch.float64)
        at = timesteps_of(training, wanted)
        if told is not None:
            at = told[(wanted.log()[:, None] - training[told].log()).abs().argmin(1)]
        self.timesteps = at.float()
        self._done = 0
        self._walk: Solver | None = None
        self._x = torch.empty(0)  # what the call at hand is made of, once the walk has begun

    def scale_model_input(self, sample: Tensor, timestep: Any = None) -> Tensor:
        """``sample`` at the unit variance that the UNet was trained on."""
        return sample / math.hypot(self.sigmas[self._done], 1)

    def step(
        self, model_output: Tensor, timestep: Any, sample: Tensor, noise: NoiseSampler, return_dict: bool = False
    ) -> tuple[Tensor, Tensor]:
        """What the next call is asked for (in the end the finished picture), and the clean picture of this one.

        Args:
            model_output: what the UNet predicts at ``sample``, which is what the last step returned.
            noise: the same at each step.
        """
        if self._walk is None:
            self._walk = self._formula(sample.float(), self._levels, noise)
            self._x = next(self._walk)[0]
        clean = self._clean(self._x, model_output.float(), self.sigmas[self._done])
        self._done += 1
        try:
            self._x = self._walk.send(clean)[0]
        except StopIteration as end:
            self._x = end.value
        return self._x, clean

    def _clean(self, x: Tensor, predicted: Tensor, sigma: float) -> Tensor:
        if self._prediction == "v_prediction":
            return x / (sigma**2 + 1) - predicted * (sigma / math.hypot(sigma, 1))
        return x - predicted * sigma


def model_sigmas(formula: KSampler, levels: Sequence[float]) -> list[float]:
    """The level of every call that ``formula`` makes."""
    zero = torch.zeros((), dtype=torch.float64)
    walk, found = formula(zero, levels, lambda now, after: zero), []
    try:
        _, level = next(walk)
        while True:
            found.append(level)
            _, level = walk.send(zero)
    except StopIteration:
        return found
