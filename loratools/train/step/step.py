"""One training step: tensors in, per-sample losses and gradients out. Everything random is an input.

So the step is a fixed graph of device work: the place where a captured CUDA graph or ``torch.compile`` goes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from loratools.base.model import Base
from loratools.base.prompt.conditioning import Conditioning
from loratools.dtypes import torch_dtype
from loratools.errors import TrainingError
from loratools.train.config.config import TrainConfig
from loratools.train.network.network import Network
from loratools.train.step import objective
from loratools.train.step.objective import Draws, Schedule
from loratools.train.step.text_states import text_states


@dataclass(frozen=True)
class Precision:
    """What the forward pass computes in; the factors, their gradients and the optimiser stay in float32.

    The base is kept in that dtype and nothing is cast on the way: norms, softmax and products sum in float32 inside
    their kernels anyway, and autocast's float32 norms would write and read every activation twice as wide.
    """

    name: Literal["no", "fp16", "bf16"]
    device: torch.device

    @property
    def compute(self) -> torch.dtype:
        """The dtype that the frozen base is kept in while training."""
        return torch.float32 if self.name == "no" else torch_dtype(self.name)

    def scaler(self) -> torch.amp.GradScaler:
        """Loss scaling, which only fp16 needs; it starts low, so that the first steps are not lost to overflow."""
        return torch.amp.GradScaler(self.device.type, init_scale=2.0**12, enabled=self.name == "fp16")


def precision(config: TrainConfig, device: torch.device) -> Precision:
    """The config's mixed precision, or bf16 where the device has it and full precision elsewhere.

    Raises:
        TrainingError: if fp16 is asked for on a CPU.
    """
    if config.mixed_precision == "fp16" and device.type == "cpu":
        raise TrainingError("mixed precision fp16 needs a GPU; use --mixed-precision no (or bf16) on a CPU")
    fast = device.type == "cuda" and torch.cuda.is_bf16_supported()
    return Precision(config.mixed_precision or ("bf16" if fast else "no"), device)


@dataclass(frozen=True)
class Inputs:
    """A batch. Of the text, either ``tokens`` for encoders that are trained, or ``hidden`` (and ``pooled``).

    Args:
        mean, deviation: of the posterior, (b, 4, h, w).
        tokens: (b, chunks, 77) for each text encoder.
        hidden: the text encoders' states, (b, 75 * chunks + 2, c).
        weight: (b,) each sample's in the loss, None where all count as one.
        pooled: SDXL's projected state, (b, p).
        emphasis: for each text encoder the weights of its states, (b, 75 * chunks + 2), of tokens with weights.
        time_ids: SDXL's size conditioning, (b, 6), see :meth:`loratools.train.data.dataset.Dataset.time_ids`.
        mask: (b, 1, h', w') each place's share in the loss, from 0 to 1, at any size.
    """

    mean: Tensor
    deviation: Tensor
    tokens: tuple[Tensor, ...] | None = None
    hidden: Tensor | None = None
    weight: Tensor | None = None
    pooled: Tensor | None = None
    time_ids: Tensor | None = None
    emphasis: tuple[Tensor, ...] | None = None
    mask: Tensor | None = None

    def with_text(self, states: Conditioning) -> Inputs:
        """The same batch with the states of text encoders that are not trained."""
        return replace(self, hidden=states.hidden, pooled=states.pooled)


class Step:
    """The forward pass over the attached network.

    Args:
        base: whose UNet and text encoders run (frozen).
        network: attached branches; only they get gradients.
        plan: the base's noise schedule, on the device.
    """

    def __init__(self, base: Base, network: Network, plan: Schedule, config: TrainConfig, kind: Precision) -> None:
        self._base, self._network, self._plan = base, network, plan
        self._config, self._kind = config, kind

    def losses(self, batch: Inputs, draws: Draws) -> Tensor:
        """Per-sample losses (b,) in float32, with their graph."""
        vae, config = self._base.vae.config, self._config
        shift = getattr(vae, "shift_factor", None) or 0.0
        latents = (batch.mean + batch.deviation * draws.posterior - shift) * vae.scaling_factor
        compute = self._kind.compute
        text = self._text(batch).to(compute)
        noise = objective.target_noise(draws, latents, config)
        noisy = objective.noised(self._plan, latents, objective.perturbed(draws, noise), draws.timesteps)
        prediction = self._base.unet(
            noisy.to(compute),
            draws.timesteps,
            encoder_hidden_states=text.hidden,
            added_cond_kwargs=_added(text.pooled, batch.time_ids),
            return_dict=False,
        )[0]
        wanted = objective.target(self._plan, latents, noise, draws.timesteps)
        error = objective.errors(prediction, wanted, draws.timesteps, self._plan, config)
        weight = objective.weights(self._plan, draws.timesteps, config)
        return objective.reduced(error, weight if batch.weight is None else weight * batch.weight, batch.mask)

    def limit_norms(self) -> Callable[[], None] | None:
        """What keeps the network's differences small after a step; None where nothing does."""
        most = self._config.scale_weight_norms
        return None if most is None else lambda: self._network.limit_norms(most)

    def _text(self, batch: Inputs) -> Conditioning:
        if batch.tokens is not None:
            return text_states(self._base, batch.tokens, self._config.clip_skip, batch.emphasis)
        if batch.hidden is None:
            raise RuntimeError("a batch holds neither tokens nor hidden states")
        return Conditioning(batch.hidden, batch.pooled)


def _added(pooled: Tensor | None, time_ids: Tensor | None) -> dict[str, Tensor] | None:
    """SDXL's conditions beside cross-attention; None for UNets without them."""
    return None if pooled is None or time_ids is None else {"text_embeds": pooled, "time_ids": time_ids}
