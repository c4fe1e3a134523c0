"""The denoising objective: what is noised, what is predicted, and how the steps are weighed.

Notation of DDPM (Ho et al. 2020): abar_t is the cumulative product of the alphas, x_t the latents at step t.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from loratools.errors import TrainingError


@dataclass(frozen=True)
class Schedule:
    """abar_t (T,) in float32 and what the model predicts, ``epsilon`` or ``v_prediction``."""

    abar: Tensor
    prediction: str

    def to(self, device: torch.device) -> Schedule:
        """The same schedule with its table on ``device``."""
        return Schedule(self.abar.to(device), self.prediction)


@dataclass(frozen=True)
class Draws:
    """What is random in one batch: ``noise`` and ``posterior`` (b, 4, h, w), ``timesteps`` (b,)."""

    noise: Tensor
    posterior: Tensor
    timesteps: Tensor


def draw(shape: tuple[int, ...], steps: int, noise_offset: float, generator: torch.Generator) -> Draws:
    """The draws of a batch of latents of ``shape``, on the generator's device: timesteps, noise, offset, posterior."""
    device = generator.device
    timesteps = torch.randint(0, steps, (shape[0],), generator=generator, device=device)
    noise = torch.randn(shape, generator=generator, device=device)
    if noise_offset:
        noise = noise + noise_offset * torch.randn((shape[0], shape[1], 1, 1), generator=generator, device=device)
    return Draws(noise, torch.randn(shape, generator=generator, device=device), timesteps)


def schedule(config: Mapping[str, Any]) -> Schedule:
    """The noise schedule of a checkpoint's scheduler config.

    Raises:
        TrainingError: for a beta schedule or prediction type that Stable Diffusion 1, 2 and XL do not have.
    """
    steps, first, last = (config.get("num_train_timesteps", 1000), config.get("beta_start", 0.00085),
                          config.get("beta_end", 0.012))  # fmt: skip
    match config.get("beta_schedule", "scaled_linear"):
        case "scaled_linear":
            betas = torch.linspace(first**0.5, last**0.5, steps, dtype=torch.float32) ** 2
        case "linear":
            betas = torch.linspace(first, last, steps, dtype=torch.float32)
        case other:
            raise TrainingError(f"the base's beta schedule '{other}' cannot be trained; scaled_linear and linear can")
    prediction = str(config.get("prediction_type", "epsilon"))
    if prediction not in ("epsilon", "v_prediction"):
        raise TrainingError(f"the base predicts '{prediction}'; only epsilon and v_prediction can be trained")
    return Schedule(torch.cumprod(1.0 - betas, 0), prediction)


def offset_noise(noise: Tensor, offset: Tensor | None, strength: float) -> Tensor:
    """noise + strength * offset, where ``offset`` (b, c, 1, 1) is one normal number a channel (Guttenberg 2023)."""
    return noise if offset is None or not strength else noise + strength * offset


def noised(plan: Schedule, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
    """x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) noise (DDPM, eq. 4); all (b, c, h, w), timesteps (b,)."""
    abar = plan.abar[timesteps].view(-1, 1, 1, 1)
    return abar.sqrt() * latents + (1 - abar).sqrt() * noise


def target(plan: Schedule, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
    """What the model should say: the noise, or v = sqrt(abar) noise - sqrt(1 - abar) x_0 (Salimans & Ho 2022)."""
    if plan.prediction == "epsilon":
        return noise
    abar = plan.abar[timesteps].view(-1, 1, 1, 1)
    return abar.sqrt() * noise - (1 - abar).sqrt() * latents


def weights(plan: Schedule, timesteps: Tensor, min_snr_gamma: float | None) -> Tensor:
    """Per-sample weights (b,): 1, or min-SNR's min(snr, gamma) / snr, with snr + 1 below for v (Hang et al. 2023)."""
    if min_snr_gamma is None:
        return torch.ones_like(timesteps, dtype=torch.float32)
    abar = plan.abar[timesteps]
    snr = abar / (1 - abar)
    return snr.clamp(max=min_snr_gamma) / (snr if plan.prediction == "epsilon" else snr + 1)


def loss(prediction: Tensor, wanted: Tensor, weight: Tensor) -> Tensor:
    """Per-sample mean squared error in float32 times ``weight`` (b,); (b,)."""
    return (prediction.float() - wanted.float()).square().flatten(1).mean(1) * weight
