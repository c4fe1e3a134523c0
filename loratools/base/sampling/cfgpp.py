"""DDIM with CFG++ (Chung et al. 2024, "CFG++: Manifold-constrained classifier free guidance", algorithm 2): the clean
picture is guided, at a scale of at most 1, and noised again by what the negative prompt alone predicts.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

SCALE = 1 / 12.5  # the WebUI's: a CFG scale of 12.5 means the paper's 1


def scheduler_class() -> Any:
    """The scheduler, on diffusers' DDIM."""
    from diffusers import DDIMScheduler

    class CfgppScheduler(DDIMScheduler):  # type: ignore[misc]
        """Algorithm 2."""

        def step(
            self, model_output: Tensor, timestep: Any, sample: Tensor, negative: Tensor, return_dict: bool = False
        ) -> tuple[Tensor, Tensor]:
            """One step; ``negative`` is what the UNet predicts for the negative prompt alone."""
            moved, clean = super().step(model_output, timestep, sample, return_dict=False)
            before = timestep - self.config.num_train_timesteps // self.num_inference_steps
            kept = self.alphas_cumprod[before] if before >= 0 else self.final_alpha_cumprod
            other = negative - model_output
            if self.config.prediction_type == "v_prediction":
                other = other * self.alphas_cumprod[timestep] ** 0.5
            return moved + other * (1 - kept) ** 0.5, clean

    return CfgppScheduler
