"""Obedience without a judge: how much a picture's own prompt helps the base to denoise it.

1 - loss with the prompt / loss without one, of the base without a LoRA, at two far steps (a diffusion classifier: Li et
al. 2023, "Your Diffusion Model is Secretly a Zero-Shot Classifier"). What is far from the base's pictures in style is
hard to denoise with any prompt, so figures fall with style too: compare pictures of one LoRA's vectors with each other,
not LoRAs. Losses with another picture's prompt in place of none, and nearer steps, tell less (measures.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from loratools.base.model import Base
from loratools.base.prompt.conditioning import Conditioning, condition
from loratools.base.sampling.noise import initial_latents
from loratools.base.sampling.noise_kinds import OWN
from loratools.base.sampling.sample import plain_unet, unet_conditions
from loratools.dtypes import widened
from loratools.measures.measure import Better, Shown
from loratools.measures.probe.encoded import PictureEncoder
from loratools.measures.smooth import SmoothBatch
from loratools.train.step.objective import noise_schedule, noised, target

Values = npt.NDArray[np.float64]
TIMESTEPS = (650, 850)  # of 1,000: where what a picture shows is settled


@dataclass(frozen=True, eq=False)
class Obedience:
    """The share of the base's denoising loss that a picture's prompt takes away; NaN without a prompt.

    Attributes:
        encode: pictures -> latents.
        exact: whether it is differentiated as it is.
    """

    base: Base
    encode: PictureEncoder
    name: str = field(default="obedience", init=False)
    better: Better = field(default="higher", init=False)
    exact: bool = field(default=True, init=False)

    def __call__(self, pictures: Sequence[Shown]) -> Values:
        values = np.full(len(pictures), np.nan)
        for batch in self.encode(pictures):
            with torch.no_grad():
                gains = self._gains(batch.latents, batch.size, [pictures[n].prompt for n in batch.places])
            values[list(batch.places)] = gains.cpu().double().numpy()
        return values

    def smooth(self, drawn: SmoothBatch) -> Tensor:
        """As :meth:`loratools.measures.smooth.SmoothMeasure.smooth`."""
        batch = drawn.read(self.encode.smooth)
        return self._gains(batch.latents, batch.size, drawn.prompts)

    def _gains(self, latents: Tensor, size: tuple[int, int], prompts: Sequence[str]) -> Tensor:
        """(b,) for latents (b, c, h, w)."""
        asked = torch.tensor([bool(prompt.strip()) for prompt in prompts], device=self.base.device)
        if not asked.any():
            return torch.full((len(prompts),), torch.nan, device=self.base.device)
        own, none = self._conditioned(prompts), condition(self.base, [""] * len(prompts))
        latents = latents.to(self.base.device)
        gains = [1 - self._loss(latents, size, t, own) / self._loss(latents, size, t, none) for t in TIMESTEPS]
        return torch.where(asked, torch.stack(gains).mean(0), torch.nan)

    def _conditioned(self, prompts: Sequence[str]) -> Conditioning:
        """Each different prompt is encoded once."""
        different = list(dict.fromkeys(prompts))
        return condition(self.base, different)[[different.index(prompt) for prompt in prompts]]

    def _loss(self, latents: Tensor, size: tuple[int, int], timestep: int, conditioning: Conditioning) -> Tensor:
        """(b,), whose activations are computed again in a backward pass."""
        base = self.base
        schedule = noise_schedule(base.scheduler_config).to(base.device)
        noise = initial_latents(OWN, timestep, size, base.vae_scale_factor).to(latents).expand(latents.shape)
        times = torch.full((len(latents),), timestep, device=base.device)
        hidden, added = unet_conditions(base, conditioning, size)

        def loss(own: Tensor) -> Tensor:
            predicted = plain_unet(base)(noised(schedule, own, noise, times).to(base.dtype), times, hidden, added)
            return (widened(predicted) - target(schedule, own, noise, times)).square().mean((1, 2, 3))

        if not latents.requires_grad:
            return loss(latents)
        result: Tensor = checkpoint(loss, latents, use_reentrant=False)
        return result
