"""Pictures of plain prompts as diffusers reads them: cut at 77 tokens, one conditioning for all steps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from loratools.base.model import Base
from loratools.base.prompt.conditioning import condition
from loratools.base.prompt.guidance import PromptConditioning, StaticGuidance
from loratools.base.sampling.noise import initial_latents
from loratools.base.sampling.noise_kinds import OWN
from loratools.base.sampling.sample import Sampling, denoise
from loratools.base.sampling.samplers import find_sampler


def noise(seed: int, size: tuple[int, int]) -> Tensor:
    return initial_latents(OWN, seed, size)


def plain_conditionings(base: Base, texts: Sequence[str]) -> list[PromptConditioning]:
    cond = condition(base, texts)
    return [PromptConditioning.plain(cond[n : n + 1]) for n in range(len(texts))]


def plain_latents(
    base: Base,
    prompts: Sequence[str],
    seeds: Sequence[int],
    sampling: Sampling,
    *,
    negative: str = "",
    size: tuple[int, int] | None = None,
) -> Tensor:
    """(b, 4, h, w), each of its own seed."""
    guided = find_sampler(sampling.sampler).guided(sampling.cfg)
    uncond = condition(base, [negative] * len(prompts)) if guided else None
    latents = torch.cat([noise(seed, size or base.resolution) for seed in seeds])
    return denoise(base, StaticGuidance(condition(base, prompts), uncond), latents, seeds, sampling)
