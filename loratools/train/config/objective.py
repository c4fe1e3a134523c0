"""Settings of the denoising objective: what is noised and how, what is predicted, and how errors are weighted.

Names and meanings are sd-scripts'. The defaults are the plain objective of DDPM.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field, model_validator

from loratools.validation import conflict

NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class ObjectiveConfig(BaseModel):
    """The objective. ``prediction`` is for bases whose file holds tensors alone, and so does not name it."""

    prediction: Literal["epsilon", "v_prediction"] | None = Field(
        default=None, description="what the base predicts; what it says of itself if left out"
    )
    zero_terminal_snr: bool = Field(
        default=False,
        description="the schedule ends in pure noise, as it does where the base says so; for bases that predict v",
    )
    min_timestep: Annotated[int, Field(ge=0)] = Field(default=0, description="least timestep that is drawn")
    max_timestep: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="timesteps are drawn from below it; all if left out"
    )
    noise_offset: NonNegative = Field(
        default=0.0,
        description="moves whole channels of the noise, so that dark and bright pictures can be learnt; 0.1 is usual",
    )
    noise_offset_random_strength: bool = Field(default=False, description="a random share of `noise_offset` each time")
    adaptive_noise_scale: Annotated[float, Field(allow_inf_nan=False)] | None = Field(
        default=None, description="more `noise_offset` where the latents' mean is large: this many times it"
    )
    multires_noise_iterations: Annotated[int, Field(ge=0, le=32)] = Field(
        default=0, description="noise of so many coarser grids on top; 6 to 10 are usual"
    )
    multires_noise_discount: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.3, description="how much weaker each coarser grid is"
    )
    ip_noise_gamma: NonNegative = Field(
        default=0.0, description="the model sees this much more noise than it should name"
    )
    ip_noise_gamma_random_strength: bool = Field(
        default=False, description="a random share of `ip_noise_gamma` each time"
    )
    loss_type: Literal["l2", "l1", "huber", "smooth_l1"] = Field(default="l2", description="how errors are measured")
    huber_schedule: Literal["snr", "exponential", "constant"] = Field(
        default="snr", description="huber, smooth_l1: how the threshold goes with the timestep"
    )
    huber_c: Annotated[float, Field(gt=0, le=1)] = Field(default=0.1, description="huber, smooth_l1: the threshold")
    huber_scale: Positive = Field(default=1.0, description="huber, smooth_l1: factor on the threshold")
    min_snr_gamma: Positive | None = Field(default=None, description="weighs the easy timesteps less; 5 is usual")
    debiased_estimation_loss: bool = Field(default=False, description="weighs by 1 / sqrt(snr), for v by 1 / (snr + 1)")
    scale_v_pred_loss_like_noise_pred: bool = Field(
        default=False, description="v: weighs timesteps as the prediction of noise does"
    )
    v_pred_like_loss: NonNegative = Field(
        default=0.0, description="epsilon: adds this much of the loss as a prediction of v has it"
    )

    @model_validator(mode="after")
    def _objective(self) -> ObjectiveConfig:
        if self.max_timestep is not None and self.min_timestep >= self.max_timestep:
            raise conflict(
                "min_timestep",
                f"min_timestep {self.min_timestep} leaves nothing below max_timestep {self.max_timestep}; lower it",
            )
        if not self.noise_offset:
            for name in ("adaptive_noise_scale", "noise_offset_random_strength"):
                if getattr(self, name):
                    raise conflict(name, f"{name} changes the noise_offset, which is 0; set one, or leave it out")
        if self.ip_noise_gamma_random_strength and not self.ip_noise_gamma:
            raise conflict(
                "ip_noise_gamma_random_strength",
                "ip_noise_gamma_random_strength changes the ip_noise_gamma, which is 0; set one, or leave it out",
            )
        if self.adaptive_noise_scale is not None and self.multires_noise_iterations:
            raise conflict(
                "adaptive_noise_scale",
                "adaptive_noise_scale and multires_noise_iterations do not go together, since one depends "
                "on the images and the other scales the whole batch; keep one",
            )
        return self
