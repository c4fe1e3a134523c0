"""Linear multistep sampling (Liu et al., PNDM, as k-diffusion's ``sample_lms`` applies it to the probability-flow ODE).

diffusers has such a scheduler, but it needs SciPy for one integral of a cubic, which Gauss-Legendre gives exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

ORDER = 4


def coefficient(sigmas: Sequence[float], step: int, j: int, order: int) -> float:
    """The weight of the derivative ``j`` steps back: the integral of its Lagrange polynomial from sigma to the next."""
    start, end = sigmas[step], sigmas[step + 1]
    nodes, weights = np.polynomial.legendre.leggauss((ORDER + 1) // 2)
    at = (start + end) / 2 + (end - start) / 2 * nodes
    value = np.ones_like(at)
    for k in range(order):
        if k != j:
            value *= (at - sigmas[step - k]) / (sigmas[step - j] - sigmas[step - k])
    return float((end - start) / 2 * (weights * value).sum())


def scheduler_class() -> Any:
    """The scheduler, on diffusers' Euler for its noise levels and input scaling."""
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
                clean = sample / (sigma**2 + 1) - model_output * sigma / (sigma**2 + 1) ** 0.5
            else:
                clean = sample - sigma * model_output
            self.derivatives = [(sample - clean) / sigma, *self.derivatives][:ORDER]
            order = min(index + 1, ORDER)
            moved = sample
            for j, derivative in enumerate(self.derivatives[:order]):
                moved = moved + coefficient(sigmas, index, j, order) * derivative
            self._step_index += 1
            return moved, clean

    return LMSScheduler
