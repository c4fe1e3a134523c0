"""Latents -> pictures: the denoising loop, numerically that of ``StableDiffusionPipeline`` (and XL's)."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from loratools.base.model import Base
from loratools.base.samplers import SAMPLERS, Sampler, find_sampler
from loratools.base.text import Conditioning
from loratools.errors import GridError

__all__ = ["SAMPLERS", "Sampler", "check_size", "decode", "denoise", "find_sampler", "noise", "sample", "step_noise"]

Guide = Tensor | Conditioning


def check_size(base: Base, size: tuple[int, int]) -> None:
    """Raise GridError unless ``size`` (height, width) is a multiple of what the base's UNet and VAE can halve."""
    unit = 2 ** (len(base.vae.config.block_out_channels) - 1)
    if any(side < unit or side % unit for side in size):
        raise GridError(f"a size of {size[1]}x{size[0]} does not fit; width and height must be multiples of {unit}")


def noise(seed: int, size: tuple[int, int]) -> Tensor:
    """The starting latents (1, 4, height / 8, width / 8) of a seed: float32 from a CPU generator, on every machine."""
    return torch.randn((1, 4, size[0] // 8, size[1] // 8), generator=torch.Generator("cpu").manual_seed(seed))


def step_noise(seeds: Sequence[int], size: tuple[int, int]) -> list[torch.Generator]:
    """One generator a picture for ancestral samplers, each standing where :func:`noise` left off."""
    generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
    for generator in generators:
        torch.randn((1, 4, size[0] // 8, size[1] // 8), generator=generator)
    return generators


def sample(
    base: Base,
    cond: Guide,
    uncond: Guide,
    latents: Tensor,
    steps: int,
    cfg: float,
    sampler: str = "DDIM",
    callback: Callable[[int], None] | None = None,
    *,
    seeds: Sequence[int] | None = None,
) -> np.ndarray:
    """Pictures as uint8 (b, height, width, 3).

    Args:
        cond, uncond: (b, 77, c) hidden states, or :class:`Conditioning` (SDXL needs its pooled part).
        latents: (b, 4, h, w) standard normal noise, for instance :func:`noise` of every seed.
        steps, cfg: sampler steps, guidance scale (1 and less leave the negative prompt out).
        sampler: a name of :data:`SAMPLERS`, in any of its spellings.
        callback: called with the number of UNet calls done so far.
        seeds: one for every picture, for samplers that add noise at each step; each picture's noise depends on its
            own seed alone, never on what else is in the batch. Without them such a sampler draws from seed 0, 1, ...
    Raises:
        GridError: if the sampler is unknown or the sizes disagree.
    """
    images = decode(base, denoise(base, cond, uncond, latents, steps, cfg, sampler, callback, seeds=seeds))
    return (images.permute(0, 2, 3, 1).cpu().float().numpy() * 255).round().astype(np.uint8)


@torch.no_grad()
def denoise(
    base: Base,
    cond: Guide,
    uncond: Guide,
    latents: Tensor,
    steps: int,
    cfg: float,
    sampler: str = "DDIM",
    callback: Callable[[int], None] | None = None,
    *,
    seeds: Sequence[int] | None = None,
) -> Tensor:
    """The finished latents (b, 4, h, w) in the VAE's scaled space; arguments as for :func:`sample`."""
    if steps < 1:
        raise GridError(f"{steps} sampler steps make no picture; use 1 or more")
    scheduler = find_sampler(sampler).scheduler(base.scheduler_config)
    size = (latents.shape[2] * 8, latents.shape[3] * 8)
    own = list(seeds) if seeds is not None else list(range(len(latents)))
    if len(own) != len(latents):
        raise GridError(f"{len(own)} seeds were given for {len(latents)} pictures; give one for each")
    extra = _step_arguments(scheduler, own, size)
    scheduler.set_timesteps(steps, device=base.device)
    guided = cfg > 1
    hidden, added = _guidance(cond, uncond, size, base, guided)
    latents = latents.to(base.device, base.dtype) * scheduler.init_noise_sigma
    for done, t in enumerate(scheduler.timesteps, start=1):
        inputs = scheduler.scale_model_input(torch.cat([latents] * 2) if guided else latents, t)
        predicted = base.unet(inputs, t, encoder_hidden_states=hidden, added_cond_kwargs=added, return_dict=False)[0]
        if guided:
            without, with_prompt = predicted.chunk(2)
            predicted = without + cfg * (with_prompt - without)
        latents = scheduler.step(predicted, t, latents, **extra, return_dict=False)[0].to(base.dtype)
        if callback:
            callback(done)
    return latents


@torch.no_grad()
def decode(base: Base, latents: Tensor) -> Tensor:
    """Latents -> pictures (b, 3, height, width) in [0, 1]."""
    scaled = latents.to(base.vae.dtype) / base.vae.config.scaling_factor
    images: Tensor = base.vae.decode(scaled, return_dict=False)[0]
    return (images * 0.5 + 0.5).clamp(0, 1)


def _step_arguments(scheduler: Any, seeds: Sequence[int], size: tuple[int, int]) -> dict[str, Any]:
    """``generator`` for the schedulers that draw noise; ``eta`` stays at its deterministic 0."""
    if "generator" not in inspect.signature(scheduler.step).parameters:
        return {}
    return {"generator": step_noise(seeds, size)}


def _guidance(
    cond: Guide, uncond: Guide, size: tuple[int, int], base: Base, guided: bool
) -> tuple[Tensor, dict[str, Tensor] | None]:
    """Hidden states (2b, 77, c) in diffusers' order, negative first, and SDXL's added conditions."""
    pair = [_as_conditioning(uncond), _as_conditioning(cond)] if guided else [_as_conditioning(cond)]
    hidden = torch.cat([guide.hidden for guide in pair]).to(base.device, base.dtype)
    if base.family != "sdxl":
        return hidden, None
    if any(guide.pooled is None for guide in pair):
        raise GridError("SDXL needs the pooled prompt as well; pass what condition() returns")
    pooled = torch.cat([guide.pooled for guide in pair if guide.pooled is not None]).to(base.device, base.dtype)
    ids = torch.tensor([[*size, 0, 0, *size]], device=base.device, dtype=base.dtype).repeat(len(hidden), 1)
    return hidden, {"text_embeds": pooled, "time_ids": ids}


def _as_conditioning(guide: Guide) -> Conditioning:
    return guide if isinstance(guide, Conditioning) else Conditioning(guide)
