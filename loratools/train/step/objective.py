"""The denoising objective: what is noised, what is predicted, and how the errors are measured and weighed.

Notation of DDPM (Ho et al. 2020): abar_t is the cumulative product of the alphas, x_t the latents at step t, and
snr_t = abar_t / (1 - abar_t). Everything here is device work of fixed shapes, so that a CUDA graph can hold it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from loratools.errors import TrainingError
from loratools.train.config.objective import ObjectiveConfig
from loratools.train.step.multires_noise import multires

_SNR_MOST = 1000.0  # sd-scripts' bound in its weights for v and debiased estimation, where snr_0 would rule


@dataclass(frozen=True)
class NoiseSchedule:
    """abar_t (T,) in float32 and what the model predicts, ``epsilon`` or ``v_prediction``."""

    abar: Tensor
    prediction: str

    @property
    def timesteps(self) -> int:
        """T."""
        return len(self.abar)

    def to(self, device: torch.device) -> NoiseSchedule:
        """The same schedule with its table on ``device``."""
        return NoiseSchedule(self.abar.to(device), self.prediction)


@dataclass(frozen=True)
class Draws:
    """What is random in one batch: ``noise`` and ``posterior`` (b, 4, h, w), ``timesteps`` (b,).

    ``offset`` (b, 4, 1, 1) and its ``strength`` (b, 1, 1, 1) are there where they depend on the latents, and
    ``perturbation`` (b, 4, h, w) is added to the noise in the model's input but not in its target (input perturbation).
    """

    noise: Tensor
    posterior: Tensor
    timesteps: Tensor
    offset: Tensor | None = None
    strength: Tensor | None = None
    perturbation: Tensor | None = None

    def rows(self, first: int, last: int) -> Draws:
        """Those of samples ``first`` to ``last`` (exclusive)."""
        offset, strength, perturbation = (
            None if part is None else part[first:last] for part in (self.offset, self.strength, self.perturbation)
        )
        noise, posterior, timesteps = (part[first:last] for part in (self.noise, self.posterior, self.timesteps))
        return Draws(noise, posterior, timesteps, offset, strength, perturbation)


def draw(shape: tuple[int, ...], steps: int, settings: ObjectiveConfig, generator: torch.Generator) -> Draws:
    """The draws of a batch of latents of ``shape`` under a schedule of ``steps``, on the generator's device.

    Random strengths, and the grids of multi-resolution noise, are one for the batch, as in sd-scripts.
    """
    device, count = generator.device, shape[0]
    last = steps if settings.max_timestep is None else settings.max_timestep
    timesteps = torch.randint(settings.min_timestep, last, (count,), generator=generator, device=device)
    noise = torch.randn(shape, generator=generator, device=device)
    offset = strength = perturbation = None
    if settings.noise_offset:
        offset = torch.randn((count, shape[1], 1, 1), generator=generator, device=device)
    posterior = torch.randn(shape, generator=generator, device=device)
    if offset is not None and settings.noise_offset_random_strength:
        strength = torch.rand(1, generator=generator, device=device) * settings.noise_offset
    if offset is not None and settings.adaptive_noise_scale is None:
        noise = noise + (settings.noise_offset if strength is None else strength) * offset
        offset = strength = None
    elif offset is not None:
        strength = torch.full((1,), settings.noise_offset, device=device) if strength is None else strength
        strength = strength.expand(count).view(-1, 1, 1, 1)
    if settings.multires_noise_iterations:
        noise = multires(noise, settings.multires_noise_iterations, settings.multires_noise_discount, generator)
    if settings.ip_noise_gamma:
        perturbation = settings.ip_noise_gamma * torch.randn(shape, generator=generator, device=device)
        if settings.ip_noise_gamma_random_strength:
            perturbation = perturbation * torch.rand(1, generator=generator, device=device)
    return Draws(noise, posterior, timesteps, offset, strength, perturbation)


def noise_schedule(config: Mapping[str, Any], settings: ObjectiveConfig | None = None) -> NoiseSchedule:
    """The noise schedule of a checkpoint's scheduler config, as ``settings`` change it.

    Raises:
        TrainingError: for a beta schedule or prediction type that Stable Diffusion 1, 2 and XL do not have, or
            settings that make no sense with what the model predicts.
    """
    settings = settings or ObjectiveConfig()
    steps, first, last = (
        config.get("num_train_timesteps", 1000),
        config.get("beta_start", 0.00085),
        config.get("beta_end", 0.012),
    )
    match config.get("beta_schedule", "scaled_linear"):
        case "scaled_linear":
            betas = torch.linspace(first**0.5, last**0.5, steps, dtype=torch.float32) ** 2
        case "linear":
            betas = torch.linspace(first, last, steps, dtype=torch.float32)
        case other:
            raise TrainingError(f"the base's beta schedule '{other}' cannot be trained; scaled_linear and linear can")
    prediction = settings.prediction or str(config.get("prediction_type", "epsilon"))
    if prediction not in ("epsilon", "v_prediction"):
        raise TrainingError(f"the base predicts '{prediction}'; only epsilon and v_prediction can be trained")
    _check(settings, prediction, steps)
    abar = torch.cumprod(1.0 - betas, 0)
    zero = settings.zero_terminal_snr or bool(config.get("rescale_betas_zero_snr", False))
    return NoiseSchedule(zero_terminal(abar) if zero and prediction == "v_prediction" else abar, prediction)


def trained_scheduler(config: Mapping[str, Any], settings: ObjectiveConfig) -> dict[str, Any]:
    """A checkpoint's scheduler config as ``settings`` change it, so that whoever draws with the weights, and whoever
    reads a Diffusers folder of them, takes them for what they are trained as."""
    changed = dict(config)
    if settings.prediction is not None:
        changed["prediction_type"] = settings.prediction
    if settings.zero_terminal_snr:
        changed["rescale_betas_zero_snr"] = True
    elif settings.prediction == "epsilon":
        changed.pop("rescale_betas_zero_snr", None)  # of a base that is said to predict v, and does not
    return changed


def prediction_note(said: str, settings: ObjectiveConfig) -> str:
    """What to mind where the settings contradict what a base says that it predicts; empty where they do not.

    That a base predicts the noise is often said by nobody, so it contradicts nothing.
    """
    if (said, settings.prediction) != ("v_prediction", "epsilon"):
        return ""
    return (
        "the base says that it predicts v, and `prediction: epsilon` is asked for: it is trained and drawn as if it "
        "predicted the noise; leave `prediction` out if that is not so"
    )


def zero_terminal(abar: Tensor) -> Tensor:
    """abar (T,) with sqrt(abar) shifted and scaled so that the last is 0 and the first stays (Lin et al. 2023, alg. 1).

    Weights by signal-to-noise ratio use the table after this; sd-scripts' use the one before it.
    """
    root = abar.sqrt()
    return ((root - root[-1]) * (root[0] / (root[0] - root[-1]))).square()


def target_noise(draws: Draws, latents: Tensor, settings: ObjectiveConfig) -> Tensor:
    """The noise (b, c, h, w) that the model should name, with the offset that depends on each channel's mean.

    noise + max(strength + scale * |mean of the channel|, 0) * offset.
    """
    if draws.offset is None or draws.strength is None:
        return draws.noise
    scale = settings.adaptive_noise_scale or 0.0
    strength = (draws.strength + scale * latents.mean((2, 3), keepdim=True).abs()).clamp(min=0)
    return draws.noise + strength * draws.offset


def perturbed(draws: Draws, noise: Tensor) -> Tensor:
    """The noise that the latents get: ``noise``, or that and a little more (input perturbation, Ning et al. 2023)."""
    return noise if draws.perturbation is None else noise + draws.perturbation


def noised(schedule: NoiseSchedule, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
    """x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) noise (DDPM, eq. 4); all (b, c, h, w), timesteps (b,)."""
    abar = schedule.abar[timesteps].view(-1, 1, 1, 1)
    return abar.sqrt() * latents + (1 - abar).sqrt() * noise


def target(schedule: NoiseSchedule, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
    """What the model should say: the noise, or v = sqrt(abar) noise - sqrt(1 - abar) x_0 (Salimans & Ho 2022)."""
    if schedule.prediction == "epsilon":
        return noise
    abar = schedule.abar[timesteps].view(-1, 1, 1, 1)
    return abar.sqrt() * noise - (1 - abar).sqrt() * latents


def weights(schedule: NoiseSchedule, timesteps: Tensor, settings: ObjectiveConfig) -> Tensor:
    """Per-sample weights (b,): the product of those that ``settings`` ask for, 1 for none.

    - min-SNR (Hang et al. 2023): min(snr, gamma) / snr for epsilon, min(snr, gamma) / (snr + 1) for v;
    - v's loss like epsilon's: snr / (snr + 1);
    - epsilon's loss with ``v_pred_like_loss`` times v's beside it: 1 + that * (snr + 1) / snr;
    - debiased estimation (Yu et al. 2023): 1 / sqrt(snr) for epsilon, 1 / (snr + 1) for v.

    All but the first bound snr by 1000, as sd-scripts does.
    """
    weight = torch.ones_like(timesteps, dtype=torch.float32)
    abar = schedule.abar[timesteps]
    snr, velocity = abar / (1 - abar), schedule.prediction == "v_prediction"
    bounded = snr.clamp(max=_SNR_MOST)
    if settings.min_snr_gamma is not None:
        weight = weight * (snr.clamp(max=settings.min_snr_gamma) / (snr + 1 if velocity else snr))
    if settings.scale_v_pred_loss_like_noise_pred:
        weight = weight * (bounded / (bounded + 1))
    if settings.v_pred_like_loss:
        weight = weight * (1 + settings.v_pred_like_loss * (bounded + 1) / bounded)
    if settings.debiased_estimation_loss:
        weight = weight * (1 / (bounded + 1) if velocity else bounded.rsqrt())
    return weight


def thresholds(schedule: NoiseSchedule, timesteps: Tensor, settings: ObjectiveConfig) -> Tensor:
    """delta (b,) of the pseudo-Huber losses: where a sample's errors turn from squared to absolute.

    ``constant`` is c; ``exponential`` falls from 1 to c, c^(t / T); ``snr`` is (1 - c) / (1 + sigma)^2 + c with
    sigma^2 = 1 / snr. Each times ``huber_scale``.
    """
    c = settings.huber_c
    match settings.huber_schedule:
        case "constant":
            delta = torch.full_like(timesteps, c, dtype=torch.float32)
        case "exponential":
            delta = c ** (timesteps.float() / schedule.timesteps)
        case "snr":
            abar = schedule.abar[timesteps]
            delta = (1 - c) / (1 + ((1 - abar) / abar).sqrt()).square() + c
    return delta * settings.huber_scale


def errors(
    prediction: Tensor, wanted: Tensor, timesteps: Tensor, schedule: NoiseSchedule, settings: ObjectiveConfig
) -> Tensor:
    """The loss of every number (b, c, h, w) in float32, with d = prediction - wanted and delta of :func:`thresholds`.

    l2 is d^2, l1 |d|, huber 2 delta (sqrt(d^2 + delta^2) - delta), smooth_l1 the same without the first delta.
    """
    difference = prediction.float() - wanted.float()
    if settings.loss_type == "l2":
        return difference.square()
    if settings.loss_type == "l1":
        return difference.abs()
    delta = thresholds(schedule, timesteps, settings).view(-1, 1, 1, 1)
    soft = 2 * ((difference.square() + delta.square()).sqrt() - delta)
    return delta * soft if settings.loss_type == "huber" else soft


def reduced(error: Tensor, weight: Tensor, mask: Tensor | None = None) -> Tensor:
    """Per-sample losses (b,): the mean of ``error`` (b, c, h, w), times ``mask`` (b, 1, h', w') and ``weight`` (b,).

    The mask is brought to the latents' size by averaging. As in sd-scripts the mean is over all numbers, so that a
    picture that is half masked counts half.
    """
    if mask is not None:
        error = error * functional.interpolate(mask.float(), error.shape[-2:], mode="area")
    return error.flatten(1).mean(1) * weight


def _check(settings: ObjectiveConfig, prediction: str, steps: int) -> None:
    velocity = prediction == "v_prediction"
    if settings.max_timestep is not None and settings.max_timestep > steps:
        raise TrainingError(f"max_timestep {settings.max_timestep} is above the base's {steps} timesteps; lower it")
    if settings.min_timestep >= steps:
        raise TrainingError(f"min_timestep {settings.min_timestep} is not below the base's {steps} timesteps; lower it")
    if settings.zero_terminal_snr and not velocity:
        raise TrainingError(
            "zero_terminal_snr ends in pure noise, of which an epsilon prediction says nothing about "
            "the picture; use it with a base that predicts v, or leave it out"
        )
    if settings.scale_v_pred_loss_like_noise_pred and not velocity:
        raise TrainingError(
            "scale_v_pred_loss_like_noise_pred is for bases that predict v, and this one predicts "
            "epsilon; leave it out, or set prediction: v_prediction"
        )
    if settings.v_pred_like_loss and velocity:
        raise TrainingError("v_pred_like_loss is for bases that predict epsilon, and this one predicts v; leave it out")
