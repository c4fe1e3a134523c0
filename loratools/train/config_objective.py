"""Settings of the denoising objective: what is noised and how, what the model should say, and how errors are weighed.

Names and meanings are sd-scripts'. The defaults are the plain objective of DDPM.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field, model_validator

NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class ObjectiveConfig(BaseModel):
    """The objective.

    ``prediction`` None is what the base says of itself; a file that holds only tensors cannot say that it predicts v.
    Timesteps are drawn from ``min_timestep`` to below ``max_timestep`` (None: all). ``noise_offset`` moves whole
    channels (times a random share of itself with ``noise_offset_random_strength``), by more where the latents' mean is
    large with ``adaptive_noise_scale``. ``multires_noise_iterations`` adds noise of coarser grids, each weaker by
    ``multires_noise_discount``. ``ip_noise_gamma`` perturbs what the model sees, not what it should say.
    ``huber_schedule`` and the two after it belong to ``loss_type`` huber and smooth_l1.
    """

    prediction: Literal["epsilon", "v_prediction"] | None = None
    zero_terminal_snr: bool = False
    min_timestep: Annotated[int, Field(ge=0)] = 0
    max_timestep: Annotated[int, Field(ge=1)] | None = None
    noise_offset: NonNegative = 0.0
    noise_offset_random_strength: bool = False
    adaptive_noise_scale: Annotated[float, Field(allow_inf_nan=False)] | None = None
    multires_noise_iterations: Annotated[int, Field(ge=0, le=32)] = 0  # 6 to 10 are usual
    multires_noise_discount: Annotated[float, Field(ge=0, le=1)] = 0.3
    ip_noise_gamma: NonNegative = 0.0
    ip_noise_gamma_random_strength: bool = False
    loss_type: Literal["l2", "l1", "huber", "smooth_l1"] = "l2"
    huber_schedule: Literal["snr", "exponential", "constant"] = "snr"
    huber_c: Annotated[float, Field(gt=0, le=1)] = 0.1
    huber_scale: Positive = 1.0
    min_snr_gamma: Positive | None = None
    debiased_estimation_loss: bool = False
    scale_v_pred_loss_like_noise_pred: bool = False
    v_pred_like_loss: NonNegative = 0.0

    @model_validator(mode="after")
    def _objective(self) -> ObjectiveConfig:
        if self.max_timestep is not None and self.min_timestep >= self.max_timestep:
            raise ValueError(f"min_timestep {self.min_timestep} leaves nothing below max_timestep {self.max_timestep}; "
                             "lower it")  # fmt: skip
        if not self.noise_offset:
            for name in ("adaptive_noise_scale", "noise_offset_random_strength"):
                if getattr(self, name):
                    raise ValueError(f"{name} changes the noise_offset, which is 0; set one, or leave it out")
        if self.ip_noise_gamma_random_strength and not self.ip_noise_gamma:
            raise ValueError("ip_noise_gamma_random_strength changes the ip_noise_gamma, which is 0; set one, or leave "
                             "it out")  # fmt: skip
        if self.adaptive_noise_scale is not None and self.multires_noise_iterations:
            raise ValueError("adaptive_noise_scale and multires_noise_iterations do not go together, since one depends "
                             "on the images and the other scales the whole batch; keep one")  # fmt: skip
        return self
