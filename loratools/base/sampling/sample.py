"""Latents -> pictures: the denoising loop, numerically that of ``StableDiffusionPipeline`` (and XL's)."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from loratools.base.model import Base
from loratools.base.prompt.conditioning import Conditioning
from loratools.base.prompt.guidance import Guidance
from loratools.base.sampling.noise import SeededDraws, step_noise
from loratools.base.sampling.noise_kinds import OWN
from loratools.base.sampling.samplers import find_sampler
from loratools.base.to_device import upload
from loratools.errors import GridError

AddedConditions = dict[str, Tensor] | None  # SDXL's pooled prompt and sizes
UNet = Callable[[Tensor, Tensor, Tensor, AddedConditions], Tensor]
"""(latents (r, 4, h, w), time, hidden states (r, 77 n, c), SDXL's added conditions) -> prediction (r, 4, h, w)"""


@dataclass(frozen=True)
class Sampling:
    """How latents are denoised.

    Args:
        steps: sampler steps, 1 or more.
        cfg: guidance scale; 1 leaves the negative prompt out, less mixes it in, as in the WebUI.
        sampler: a name that :func:`~loratools.base.sampling.samplers.find_sampler` knows.
        noise: the kind of noise, which also says whose noise levels are used: see
            :mod:`loratools.base.sampling.noise`.
    """

    steps: int
    cfg: float
    sampler: str
    noise: str = OWN


def denoise(
    base: Base,
    guidance: Guidance,
    latents: Tensor,
    seeds: Sequence[int],
    sampling: Sampling,
    *,
    callback: Callable[[int], None] | None = None,
    unet: UNet | None = None,
    gradients: bool = False,
) -> Tensor:
    """The finished latents (b, 4, h, w) in the VAE's scaled space.

    Nothing in the loop waits for the device: the scheduler's numbers stay on the CPU, where it reads them.

    Args:
        latents: (b, 4, h, w) standard normal noise, for instance
            :func:`~loratools.base.sampling.noise.initial_latents` of every seed.
        seeds: one for every picture, for samplers that add noise at each step; each picture's noise depends on its
            own seed alone, never on what else is in the batch.
        callback: called after every UNet call with the number of calls so far.
        unet: how the UNet is run, for instance :class:`~loratools.base.sampling.cuda_graph.UNetGraphs`; by default
            :func:`plain_unet`.
        gradients: whether the result can be differentiated by what ``unet`` depends on; the sampler has to be one of
            diffusers' that adds no noise, such as DDIM.
    Raises:
        GridError: if the sampler is unknown, or steps or seeds are not as described.
    """
    if sampling.steps < 1:
        raise GridError(f"{sampling.steps} sampler steps make no picture; use 1 or more")
    if len(seeds) != len(latents):
        raise GridError(f"{len(seeds)} seeds were given for {len(latents)} pictures; give one for each")
    with torch.set_grad_enabled(gradients):
        return _denoised(base, guidance, latents, seeds, sampling, callback, unet or plain_unet(base))


def _denoised(
    base: Base,
    guidance: Guidance,
    latents: Tensor,
    seeds: Sequence[int],
    sampling: Sampling,
    callback: Callable[[int], None] | None,
    run: UNet,
) -> Tensor:
    sampler = find_sampler(sampling.sampler)
    scheduler = sampler.make_scheduler(
        base.scheduler_config, sampling.steps, webui=sampling.noise != OWN, xl=base.family == "sdxl"
    )
    parameters = inspect.signature(scheduler.step).parameters
    # schedulers that add noise take torch's generators, or our own noise source; some draw only where eta is not 0
    draws = SeededDraws(sampling.noise, seeds, latents.shape[1:]) if "generator" in parameters else None
    extra: dict[str, Any] = {"generator": draws.generators} if draws else {}
    if "noise" in parameters:
        draw = step_noise(sampling.noise, seeds, latents.shape[1:], scheduler.brownian)
        extra["noise"] = lambda sigma, sigma_next: upload(draw(sigma, sigma_next), base.device)
    inputs = _UNetInputs(base, guidance, latents)
    times = upload(scheduler.timesteps, base.device)
    latents = upload(latents, base.device).to(base.dtype) * scheduler.init_noise_sigma
    for index, t in enumerate(scheduler.timesteps):
        hidden, added = inputs.at(_step_of(index, sampling.steps, len(scheduler.timesteps)))
        scaled = scheduler.scale_model_input(guidance.expand(latents), t)
        rows = run(scaled, times[index], hidden, added)
        predicted = guidance.combine(rows, sampler.scale(sampling.cfg))
        if "negative" in parameters:
            extra["negative"] = guidance.unconditional(rows)
        with draws or contextlib.nullcontext():
            latents = scheduler.step(predicted, t, latents, **extra, return_dict=False)[0].to(base.dtype)
        if callback:
            callback(index + 1)
    return latents


class _UNetInputs:
    """What the UNet gets beside latents and time, made anew only at steps where the conditioning changes."""

    def __init__(self, base: Base, guidance: Guidance, latents: Tensor) -> None:
        self._base, self._guidance = base, guidance
        factor = base.vae_scale_factor
        self._size = latents.shape[2] * factor, latents.shape[3] * factor
        self._last: tuple[Conditioning, tuple[Tensor, AddedConditions]] | None = None

    def at(self, step: int) -> tuple[Tensor, AddedConditions]:
        """Hidden states (r, 77 n, c), and SDXL's added conditions, as the UNet takes them at ``step``."""
        conditioning = self._guidance.at(step)
        if self._last is None or self._last[0] is not conditioning:
            self._last = conditioning, unet_conditions(self._base, conditioning, self._size)
        return self._last[1]


def unet_conditions(base: Base, conditioning: Conditioning, size: tuple[int, int]) -> tuple[Tensor, AddedConditions]:
    """Hidden states (r, 77 n, c), and SDXL's added conditions, as the UNet takes them.

    Args:
        size: (height, width) in pixels of the picture, which SDXL is told.
    Raises:
        GridError: for SDXL without the pooled prompt.
    """
    device, dtype = base.device, base.dtype
    hidden = conditioning.hidden.to(device, dtype)
    if base.family != "sdxl":
        return hidden, None
    if conditioning.pooled is None:
        raise GridError("SDXL needs the pooled prompt as well; pass what condition() returns")
    ids = torch.tensor([[*size, 0, 0, *size]], device=device, dtype=dtype).repeat(len(hidden), 1)
    return hidden, {"text_embeds": conditioning.pooled.to(device, dtype), "time_ids": ids}


def plain_unet(base: Base) -> UNet:
    """The base's UNet as a function, launched kernel by kernel."""

    def run(latents: Tensor, time: Tensor, hidden: Tensor, added: AddedConditions) -> Tensor:
        called = base.unet(latents, time, encoder_hidden_states=hidden, added_cond_kwargs=added, return_dict=False)
        return called[0]  # type: ignore[no-any-return]

    return run


def decode(base: Base, latents: Tensor, *, gradients: bool = False) -> Tensor:
    """Latents (b, 4, h, w) -> pictures (b, 3, height, width) in [0, 1], which with ``gradients`` can be differentiated
    by the latents."""
    with torch.set_grad_enabled(gradients):
        scaled = latents.to(base.vae.dtype) / base.vae.config.scaling_factor
        images: Tensor = base.vae.decode(scaled, return_dict=False)[0]
        return (images * 0.5 + 0.5).clamp(0, 1)


def decode_pixels(base: Base, latents: Tensor) -> Tensor:
    """Latents (b, 4, h, w) -> pictures (b, height, width, 3) in uint8, on the VAE's device."""
    return (decode(base, latents).permute(0, 2, 3, 1).float() * 255).round().to(torch.uint8)


def _step_of(index: int, steps: int, calls: int) -> int:
    """The sampler step that a UNet call belongs to: samplers of two calls a step count each step once."""
    return index if calls <= steps else min(steps - 1, index * steps // calls)
