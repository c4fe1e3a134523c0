"""DDIM with CFG++ (Chung et al. 2024, "CFG++: Manifold-constrained classifier free guidance", algorithm 2): the clean
picture is guided, at a scale of at most 1, and the noise added back is the one predicted for the negative prompt alone.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

SCALE = 1 / 12.5  # the WebUI's: a CFG scale of 12.5 means the paper's 1


def scheduler_class() -> Any:
    """The scheduler's class, on diffusers' DDIM, which is imported only here."""
    from diffusers import DDIMScheduler

    class CfgppScheduler(DDIMScheduler):  # type: ignore[misc]
        """DDIM whose ``step`` takes the negative prompt's prediction as well."""

        def step(
            self, model_output: Tensor, timestep: Any, sample: Tensor, negative: Tensor, return_dict: bool = False
        ) -> tuple[Tensor, Tensor]:
            """One step of algorithm 2: DDIM's, with eps of the negative prompt in the renoising term.

            Args:
                model_output: the guided prediction.
                negative: what the UNet predicts for the negative prompt alone.
            """
            prev_sample, denoised = super().step(model_output, timestep, sample, return_dict=False)
            prev_timestep = timestep - self.config.num_train_timesteps // self.num_inference_steps
            alpha_prev = self.alphas_cumprod[prev_timestep] if prev_timestep >= 0 else self.final_alpha_cumprod
            eps_change = negative - model_output
            if self.config.prediction_type == "v_prediction":
                eps_change = eps_change * self.alphas_cumprod[timestep] ** 0.5
            return prev_sample + eps_change * (1 - alpha_prev) ** 0.5, denoised

    return CfgppScheduler
