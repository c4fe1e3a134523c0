"""Latents -> pictures: the denoising loop, numerically that of ``StableDiffusionPipeline`` (and XL's)."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from loratools.base.model import Base
from loratools.base.prompt.conditioning import Conditioning
from loratools.base.prompt.guidance import Guidance, StaticGuidance
from loratools.base.sampling.noise import SeededDraws, initial_latents, step_noise
from loratools.base.sampling.noise_kinds import OWN
from loratools.base.sampling.samplers import SAMPLERS, Sampler, find_sampler
from loratools.base.to_device import upload
from loratools.errors import GridError

__all__ = [
    "SAMPLERS",
    "Sampler",
    "check_size",
    "compiled_unet",
    "decode",
    "denoise",
    "denoise_guided",
    "find_sampler",
    "noise",
    "plain_unet",
    "sample",
]

Prompt = Tensor | Conditioning
Added = dict[str, Tensor] | None
Inputs = tuple[Tensor, Added]
UNet = Callable[[Tensor, Tensor, Tensor, Added], Tensor]


def check_size(base: Base, size: tuple[int, int]) -> None:
    """Raise GridError unless ``size`` (height, width) is a multiple of what the base's UNet and VAE can halve."""
    unit = 2 ** (len(base.vae.config.block_out_channels) - 1)
    if any(side < unit or side % unit for side in size):
        raise GridError(f"a size of {size[1]}x{size[0]} does not fit; width and height must be multiples of {unit}")


def noise(seed: int, size: tuple[int, int]) -> Tensor:
    """The starting latents (1, 4, height / 8, width / 8) of a seed: float32 from a CPU generator, on every machine."""
    return initial_latents(OWN, seed, size)


def sample(
    base: Base,
    cond: Prompt,
    uncond: Prompt,
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
        steps, cfg: sampler steps, guidance scale (1 leaves the negative prompt out; less mixes it in, as in the WebUI).
        sampler: a name of :data:`SAMPLERS`, in any of its spellings.
        callback: called with the number of UNet calls done so far.
        seeds: one for every picture, for samplers that add noise at each step; each picture's noise depends on its
            own seed alone, never on what else is in the batch. Without them such a sampler draws from seed 0, 1, ...
    Raises:
        GridError: if the sampler is unknown or the sizes disagree.
    """
    images = decode(base, denoise(base, cond, uncond, latents, steps, cfg, sampler, callback, seeds=seeds))
    return (images.permute(0, 2, 3, 1).cpu().float().numpy() * 255).round().astype(np.uint8)


def denoise(
    base: Base,
    cond: Prompt,
    uncond: Prompt,
    latents: Tensor,
    steps: int,
    cfg: float,
    sampler: str = "DDIM",
    callback: Callable[[int], None] | None = None,
    *,
    seeds: Sequence[int] | None = None,
) -> Tensor:
    """The finished latents (b, 4, h, w) in the VAE's scaled space; arguments as for :func:`sample`."""
    fixed = StaticGuidance(
        _as_conditioning(cond), _as_conditioning(uncond) if find_sampler(sampler).guided(cfg) else None
    )
    return denoise_guided(base, fixed, latents, steps, cfg, sampler, callback, seeds=seeds)


@torch.no_grad()
def denoise_guided(
    base: Base,
    guidance: Guidance,
    latents: Tensor,
    steps: int,
    cfg: float,
    sampler: str = "DDIM",
    callback: Callable[[int], None] | None = None,
    *,
    seeds: Sequence[int] | None = None,
    kind: str = OWN,
    unet: UNet | None = None,
) -> Tensor:
    """:func:`denoise` under any :class:`~loratools.base.prompt.guidance.Guidance`, and with any way to run the UNet.

    Nothing in the loop waits for the device: the scheduler's numbers stay on the CPU, where it reads them.

    Args:
        kind: where the noise of each step comes from, and whose noise levels are used: see
            :mod:`loratools.base.sampling.noise`.
        unet: (latents (r, 4, h, w), time, conditioning's hidden states, SDXL's added conditions) -> prediction, for
            instance :class:`~loratools.base.sampling.cuda_graph.UNetGraphs`; the base's own UNet by default.
    """
    if steps < 1:
        raise GridError(f"{steps} sampler steps make no picture; use 1 or more")
    size = (latents.shape[2] * 8, latents.shape[3] * 8)
    own = list(seeds) if seeds is not None else list(range(len(latents)))
    if len(own) != len(latents):
        raise GridError(f"{len(own)} seeds were given for {len(latents)} pictures; give one for each")
    found = find_sampler(sampler)
    scheduler = found.prepared(base.scheduler_config, steps, webui=kind != OWN, xl=base.family == "sdxl")
    takes = inspect.signature(scheduler.step).parameters
    draws = SeededDraws(kind, own, size) if "generator" in takes else None  # some draw only where eta is not 0
    extra: dict[str, Any] = {"generator": draws.generators} if draws else {}
    if "noise" in takes:
        draw = step_noise(kind, own, size, scheduler.brownian)
        extra["noise"] = lambda now, after: upload(draw(now, after), base.device)
    times = upload(scheduler.timesteps, base.device)
    run = unet or plain_unet(base)
    latents = upload(latents, base.device).to(base.dtype) * scheduler.init_noise_sigma
    told: tuple[Conditioning, Inputs] | None = None
    for index, t in enumerate(scheduler.timesteps):
        now = guidance.at(_step_of(index, steps, len(scheduler.timesteps)))
        if told is None or told[0] is not now:
            told = now, _inputs(base, now, size)
        inputs = scheduler.scale_model_input(guidance.spread(latents), t)
        rows = run(inputs, times[index], *told[1])
        predicted = guidance.mix(rows, found.scale(cfg))
        if "negative" in takes:
            extra["negative"] = guidance.without(rows)
        with draws or contextlib.nullcontext():
            latents = scheduler.step(predicted, t, latents, **extra, return_dict=False)[0].to(base.dtype)
        if callback:
            callback(index + 1)
    return latents


def plain_unet(base: Base) -> UNet:
    """The base's UNet as a function, launched kernel by kernel."""

    def run(latents: Tensor, time: Tensor, hidden: Tensor, added: Added) -> Tensor:
        called = base.unet(latents, time, encoder_hidden_states=hidden, added_cond_kwargs=added, return_dict=False)
        return called[0]  # type: ignore[no-any-return]

    return run


def compiled_unet(base: Base) -> UNet:
    """The base's UNet through torch.compile, which compiles anew for every shape of inputs."""
    module: Any = torch.compile(base.unet, dynamic=False)

    def run(latents: Tensor, time: Tensor, hidden: Tensor, added: Added) -> Tensor:
        called = module(latents, time, encoder_hidden_states=hidden, added_cond_kwargs=added, return_dict=False)
        return called[0]  # type: ignore[no-any-return]

    return run


@torch.no_grad()
def decode(base: Base, latents: Tensor) -> Tensor:
    """Latents -> pictures (b, 3, height, width) in [0, 1]."""
    scaled = latents.to(base.vae.dtype) / base.vae.config.scaling_factor
    images: Tensor = base.vae.decode(scaled, return_dict=False)[0]
    return (images * 0.5 + 0.5).clamp(0, 1)


def _step_of(index: int, steps: int, calls: int) -> int:
    """The sampler step that a UNet call belongs to: samplers of two calls a step count each step once."""
    return index if calls <= steps else min(steps - 1, index * steps // calls)


def _inputs(base: Base, cond: Conditioning, size: tuple[int, int]) -> Inputs:
    """Hidden states (r, 77 n, c), and SDXL's added conditions, as the UNet takes them."""
    hidden = cond.hidden.to(base.device, base.dtype)
    if base.family != "sdxl":
        return hidden, None
    if cond.pooled is None:
        raise GridError("SDXL needs the pooled prompt as well; pass what condition() returns")
    ids = torch.tensor([[*size, 0, 0, *size]], device=base.device, dtype=base.dtype).repeat(len(hidden), 1)
    return hidden, {"text_embeds": cond.pooled.to(base.device, base.dtype), "time_ids": ids}


def _as_conditioning(prompt: Prompt) -> Conditioning:
    return prompt if isinstance(prompt, Conditioning) else Conditioning(prompt)
