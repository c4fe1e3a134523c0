"""Obedience without a judge: how much a picture's own prompt helps the base to denoise it.

1 - loss with the prompt / loss without one, of the base without a LoRA, at two far steps (a diffusion classifier: Li et
al. 2023, "Your Diffusion Model is Secretly a Zero-Shot Classifier"). What is far from the base's pictures in style is
hard to denoise with any prompt, so figures fall with style too: compare pictures of one LoRA's vectors with each other,
not LoRAs. Losses with another picture's prompt in place of none, and nearer steps, tell less (measures.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from loratools.base.model import Base
from loratools.base.prompt.conditioning import Conditioning, condition
from loratools.base.sampling.noise import initial_latents
from loratools.base.sampling.noise_kinds import OWN
from loratools.base.sampling.sample import plain_unet, unet_conditions
from loratools.measures.measure import Better, Shown
from loratools.measures.probe.encoded import EncodedBatch
from loratools.train.step.objective import noise_schedule, noised, target

Values = npt.NDArray[np.float64]
TIMESTEPS = (650, 850)  # of 1,000: where what a picture shows is settled


@dataclass(frozen=True, eq=False)
class Obedience:
    """The share of the base's denoising loss that a picture's prompt takes away; NaN without a prompt.

    Attributes:
        encode: pictures -> latents.
    """

    base: Base
    encode: Callable[[Sequence[Shown]], tuple[EncodedBatch, ...]]
    name: str = field(default="obedience", init=False)
    better: Better = field(default="higher", init=False)

    def __call__(self, pictures: Sequence[Shown]) -> Values:
        values = np.full(len(pictures), np.nan)
        for batch in self.encode(pictures):
            prompts = [pictures[n].prompt for n in batch.places]
            asked = np.array([bool(prompt.strip()) for prompt in prompts])
            if asked.any():
                values[list(batch.places)] = np.where(asked, self._gains(batch, prompts), np.nan)
        return values

    @torch.no_grad()
    def _gains(self, batch: EncodedBatch, prompts: Sequence[str]) -> Values:
        """(b,)"""
        own, none = self._conditioned(prompts), condition(self.base, [""] * len(prompts))
        gains = [1 - self._loss(batch, t, own) / self._loss(batch, t, none) for t in TIMESTEPS]
        values: Values = torch.stack(gains).mean(0).double().cpu().numpy()
        return values

    def _conditioned(self, prompts: Sequence[str]) -> Conditioning:
        """Each different prompt is encoded once."""
        different = list(dict.fromkeys(prompts))
        return condition(self.base, different)[[different.index(prompt) for prompt in prompts]]

    def _loss(self, batch: EncodedBatch, timestep: int, conditioning: Conditioning) -> Tensor:
        """(b,)"""
        base = self.base
        schedule = noise_schedule(base.scheduler_config).to(base.device)
        latents = batch.latents.to(base.device)
        noise = initial_latents(OWN, timestep, batch.size, base.vae_scale_factor).to(base.device, torch.float32)
        noise = noise.expand(latents.shape)
        times = torch.full((len(latents),), timestep, device=base.device)
        hidden, added = unet_conditions(base, conditioning, batch.size)
        predicted = plain_unet(base)(noised(schedule, latents, noise, times).to(base.dtype), times, hidden, added)
        return (predicted.float() - target(schedule, latents, noise, times)).square().mean((1, 2, 3))
