"""A sampler of :mod:`loratools.base.sampling.k_samplers` with the interface of a diffusers scheduler."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from loratools.base.sampling.k_samplers import KSampler, NoiseSampler, Solver
from loratools.base.sampling.sigmas import timesteps_of


class KScheduler:
    """Runs a sampler's model calls in order. Their sigmas are known beforehand, from a run without pictures.

    Args:
        training: the base's sigmas (t,), rising with time.
        sigmas: the run's (n + 1,), falling.
        prediction: what the UNet predicts, ``epsilon`` or ``v_prediction``.
        timesteps: the only training timesteps that the UNet may be called at; by default any time, also between two.
        brownian: whether the sampler's noise is that of a Brownian path over the sigmas.
    """

    def __init__(
        self,
        sampler: KSampler,
        training: Tensor,
        sigmas: Tensor,
        prediction: str,
        *,
        timesteps: Tensor | None = None,
        brownian: bool = False,
    ) -> None:
        self._sampler, self._prediction = sampler, prediction
        self._run_sigmas: list[float] = sigmas.float().tolist()  # rounded as in the WebUI
        ends = min(sigma for sigma in self._run_sigmas if sigma > 0), self._run_sigmas[0]
        self.brownian = ends if brownian else None
        self.init_noise_sigma = self._run_sigmas[0]
        self.sigmas = model_sigmas(sampler, self._run_sigmas)
        called = torch.tensor(self.sigmas, dtype=torch.float64)
        times = timesteps_of(training, called)
        if timesteps is not None:
            times = timesteps[(called.log()[:, None] - training[timesteps].log()).abs().argmin(1)]
        self.timesteps = times.float()
        self._calls = 0
        self._solver: Solver | None = None
        self._x = torch.empty(0)  # what the present call was made of, once the solver runs

    def scale_model_input(self, sample: Tensor, timestep: Any = None) -> Tensor:
        """``sample`` at the unit variance that the UNet was trained on."""
        return sample / math.hypot(self.sigmas[self._calls], 1)

    def step(
        self, model_output: Tensor, timestep: Any, sample: Tensor, noise: NoiseSampler, return_dict: bool = False
    ) -> tuple[Tensor, Tensor]:
        """The ``x`` of the next call (after the last one the finished picture), and ``denoised`` of this one.

        Args:
            model_output: what the UNet predicts at ``sample``, which is what the previous step returned.
            noise: the same at each step.
        """
        if self._solver is None:
            self._solver = self._sampler(sample.float(), self._run_sigmas, noise)
            self._x = next(self._solver)[0]
        denoised = self._denoised(self._x, model_output.float(), self.sigmas[self._calls])
        self._calls += 1
        try:
            self._x = self._solver.send(denoised)[0]
        except StopIteration as end:
            self._x = end.value
        return self._x, denoised

    def _denoised(self, x: Tensor, predicted: Tensor, sigma: float) -> Tensor:
        if self._prediction == "v_prediction":
            return x / (sigma**2 + 1) - predicted * (sigma / math.hypot(sigma, 1))
        return x - predicted * sigma


def model_sigmas(sampler: KSampler, sigmas: Sequence[float]) -> list[float]:
    """The sigma of every model call that ``sampler`` makes over ``sigmas``."""
    zero = torch.zeros((), dtype=torch.float64)
    solver, called = sampler(zero, sigmas, lambda sigma, sigma_next: zero), []
    try:
        _, sigma = next(solver)
        while True:
            called.append(sigma)
            _, sigma = solver.send(zero)
    except StopIteration:
        return called
