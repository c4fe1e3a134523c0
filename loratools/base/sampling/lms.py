"""Linear multistep sampling (Liu et al., PNDM, as k-diffusion's ``sample_lms`` applies it to the probability-flow ODE).

diffusers has such a scheduler, but it needs SciPy for one integral of a cubic, which Gauss-Legendre gives exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

ORDER = 4


def coefficient(sigmas: Sequence[float], step: int, j: int, order: int) -> float:
    """The weight of the derivative ``j`` steps back: the integral of its Lagrange polynomial from sigma to the next
    (k-diffusion's ``linear_multistep_coeff``).

    Args:
        sigmas: of the run, falling.
        step: the present step's number.
        order: how many derivatives are used.
    """
    start, end = sigmas[step], sigmas[step + 1]
    nodes, weights = np.polynomial.legendre.leggauss((ORDER + 1) // 2)
    sigma = (start + end) / 2 + (end - start) / 2 * nodes
    polynomial = np.ones_like(sigma)
    for k in range(order):
        if k != j:
            polynomial *= (sigma - sigmas[step - k]) / (sigmas[step - j] - sigmas[step - k])
    return float((end - start) / 2 * (weights * polynomial).sum())


def scheduler_class() -> Any:
    """The scheduler's class, on diffusers' Euler for its sigmas and input scaling, which is imported only here."""
    from diffusers import EulerDiscreteScheduler

    class LMSScheduler(EulerDiscreteScheduler):  # type: ignore[misc]
        """Adams-Bashforth of order 4 over the sigmas."""

        def set_timesteps(self, *args: Any, **kwargs: Any) -> None:
            super().set_timesteps(*args, **kwargs)
            self.derivatives: list[Any] = []

        def step(self, model_output: Any, timestep: Any, sample: Any, return_dict: bool = False) -> tuple[Any, Any]:
            """One step; ``model_output`` is what the UNet predicts at ``timestep`` for the scaled ``sample``."""
            if self.step_index is None:
                self._init_step_index(timestep)
            index = self.step_index
            sigmas = self.sigmas.tolist()
            sigma = sigmas[index]
            if self.config.prediction_type == "v_prediction":
                denoised = sample / (sigma**2 + 1) - model_output * sigma / (sigma**2 + 1) ** 0.5
            else:
                denoised = sample - sigma * model_output
            self.derivatives = [(sample - denoised) / sigma, *self.derivatives][:ORDER]
            order = min(index + 1, ORDER)
            prev_sample = sample
            for j, derivative in enumerate(self.derivatives[:order]):
                prev_sample = prev_sample + coefficient(sigmas, index, j, order) * derivative
            self._step_index += 1
            return prev_sample, denoised

    return LMSScheduler
