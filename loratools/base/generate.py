"""Prompts in the WebUI's syntax -> pictures: what training samples, the base's own style and grids have in common.

The steps are :func:`~loratools.base.prompt.prompt_encoding.encode_prompts`, :func:`batch_guidance`,
:func:`denoise_batch` and :func:`~loratools.base.sampling.sample.decode_pixels`; :func:`generate` is all of them in
turn. The grid's engine calls them one by one, since it encodes prompts once for many batches and gathers latents for
the decoder.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from loratools.base.model import Base
from loratools.base.picture_size import check_size
from loratools.base.prompt.embeddings import Embeddings
from loratools.base.prompt.guidance import Guidance, PromptConditioning, guidance
from loratools.base.prompt.prompt_encoding import encode_prompts
from loratools.base.sampling.noise import initial_latents, pooled_noise
from loratools.base.sampling.noise_kinds import OWN
from loratools.base.sampling.sample import Sampling, UNet, decode_pixels, denoise
from loratools.base.sampling.samplers import find_sampler
from loratools.errors import GridError


@dataclass(frozen=True)
class PictureRequest:
    """One picture: ``size`` is (height, width) in pixels, ``noise`` a kind of :mod:`loratools.base.sampling.noise`."""

    prompt: str
    negative: str
    size: tuple[int, int]
    seed: int
    steps: int
    cfg: float
    sampler: str
    clip_skip: int = 1
    noise: str = OWN

    @property
    def noise_size(self) -> tuple[int, int]:
        """The size of the picture whose noise this one begins from: its own."""
        return self.size


class Sampled(Protocol):
    """What the denoising reads of a picture, for instance of a :class:`PictureRequest`."""

    @property
    def seed(self) -> int: ...

    @property
    def size(self) -> tuple[int, int]: ...

    @property
    def noise_size(self) -> tuple[int, int]: ...

    @property
    def steps(self) -> int: ...

    @property
    def cfg(self) -> float: ...

    @property
    def sampler(self) -> str: ...

    @property
    def noise(self) -> str: ...


def generate(base: Base, pictures: Sequence[PictureRequest], embeddings: Embeddings | None = None) -> np.ndarray:
    """Pictures as uint8 (b, height, width, 3), under whatever is in the base's modules now.

    Args:
        pictures: one batch; they may differ in prompt, negative prompt and seed alone.
        embeddings: those that the prompts may name.
    Raises:
        GridError: if there is no picture, the pictures differ in more, or a size, a sampler or a number of steps cannot
            be used.
        PromptError: for a clip skip or an embedding that does not fit the base.
    """
    if not pictures:
        raise GridError("no picture is asked for; give at least one")
    first = pictures[0]
    check_size(first.size, base.vae_scale_factor)
    if any(_shared(own) != _shared(first) or own.clip_skip != first.clip_skip for own in pictures):
        raise GridError("pictures of one batch must agree in size, steps, CFG scale, sampler, noise and clip skip")
    texts = list(dict.fromkeys(text for own in pictures for text in (own.prompt, own.negative)))
    encoded = dict(zip(texts, encode_prompts(base, texts, first.steps, first.clip_skip, embeddings), strict=True))
    pairs = [(encoded[own.prompt], encoded[own.negative]) for own in pictures]
    latents = denoise_batch(base, pictures, batch_guidance(first, pairs))
    return decode_pixels(base, latents).cpu().numpy()


def batch_guidance(first: Sampled, pairs: Sequence[tuple[PromptConditioning, PromptConditioning]]) -> Guidance:
    """The guidance of a batch whose pictures are sampled as ``first`` is.

    Args:
        pairs: every picture's prompt and negative prompt.
    """
    positive, negative = zip(*pairs, strict=True)
    return guidance(positive, negative, find_sampler(first.sampler).guided(first.cfg))


def denoise_batch(
    base: Base,
    pictures: Sequence[Sampled],
    guidance: Guidance,
    *,
    callback: Callable[[int], None] | None = None,
    unet: UNet | None = None,
    gradients: bool = False,
) -> Tensor:
    """The latents (b, 4, h, w) of a batch of pictures, each from its own seed's noise.

    Args:
        callback, unet, gradients: as for :func:`~loratools.base.sampling.sample.denoise`.
    """
    first, factor = pictures[0], base.vae_scale_factor
    latents = torch.cat([_noise(own, factor) for own in pictures])
    sampling = Sampling(first.steps, first.cfg, first.sampler, first.noise)
    seeds = [own.seed for own in pictures]
    return denoise(base, guidance, latents, seeds, sampling, callback=callback, unet=unet, gradients=gradients)


def _noise(own: Sampled, factor: int) -> Tensor:
    """What a picture begins from; a smaller one than its noise's from that noise pooled, so that their compositions
    are alike."""
    latents = initial_latents(own.noise, own.seed, own.noise_size, factor)
    return latents if own.noise_size == own.size else pooled_noise(latents, own.size, factor)


def _shared(own: Sampled) -> tuple[object, ...]:
    """What the pictures of a batch have in common."""
    return own.size, own.steps, own.cfg, own.sampler, own.noise
