"""One training step: noise, forward pass, losses and gradients. Everything random is drawn from one generator.

So a step is a fixed graph of device work: what a captured CUDA graph or ``torch.compile`` needs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from loratools.base.model import Base
from loratools.base.prompt.conditioning import Conditioning
from loratools.train.config.config import TrainConfig
from loratools.train.network.trained_weights import TrainedWeights
from loratools.train.step import objective
from loratools.train.step.batch import Inputs, Micro, Outcome
from loratools.train.step.objective import Draws, NoiseSchedule
from loratools.train.step.precision import Precision
from loratools.train.step.text_states import text_states


class DenoisingStep:
    """Draws, forward and backward over the attached network.

    Args:
        base: whose UNet and text encoders run.
        network: what is trained, attached to the base; only that gets gradients.
        schedule: the base's noise schedule, on the device.
    """

    def __init__(
        self, base: Base, network: TrainedWeights, schedule: NoiseSchedule, config: TrainConfig, precision: Precision
    ) -> None:
        self._base, self._network, self.schedule = base, network, schedule
        self._config, self._precision = config, precision

    def run(
        self,
        inputs: Inputs,
        micro: Micro,
        generator: torch.Generator,
        scaler: torch.amp.GradScaler,
        passes: Sequence[Callable[[], contextlib.AbstractContextManager[object]]] = (contextlib.nullcontext,),
    ) -> Outcome:
        """Draw, compute the losses and add to the parameters' gradients.

        Noise and timesteps are drawn for all ``micro.total`` rows, so that a row's do not depend on the processes.

        Args:
            scaler: scales the loss, for fp16.
            passes: what each forward and backward pass over the same draws runs in; see
                :class:`loratools.train.step.update.Update`.
        """
        shape = (micro.total, *inputs.mean.shape[1:])
        drawn = objective.draw(shape, self.schedule.timesteps, self._config, generator)
        own = drawn.rows(micro.first, micro.last)
        for within in passes:
            with within():
                losses = self.losses(inputs, own)
                loss = losses.mean() * micro.share
                scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        return Outcome(loss.detach(), losses.detach(), own.timesteps)

    def losses(self, batch: Inputs, draws: Draws) -> Tensor:
        """Per-sample losses (b,) in float32, with their graph."""
        vae, config = self._base.vae.config, self._config
        shift = getattr(vae, "shift_factor", None) or 0.0
        latents = (batch.mean + batch.deviation * draws.posterior - shift) * vae.scaling_factor
        compute = self._precision.compute
        text = self._text(batch).to(compute)
        noise = objective.target_noise(draws, latents, config)
        noisy = objective.noised(self.schedule, latents, objective.perturbed(draws, noise), draws.timesteps)
        prediction = self._base.unet(
            noisy.to(compute),
            draws.timesteps,
            encoder_hidden_states=text.hidden,
            added_cond_kwargs=_added(text.pooled, batch.time_ids),
            return_dict=False,
        )[0]
        wanted = objective.target(self.schedule, latents, noise, draws.timesteps)
        error = objective.errors(prediction, wanted, draws.timesteps, self.schedule, config)
        weight = objective.weights(self.schedule, draws.timesteps, config)
        return objective.reduced(error, weight if batch.weight is None else weight * batch.weight, batch.mask)

    def limit_norms(self) -> Callable[[], None] | None:
        """What keeps the network's differences small after an optimiser step; None where nothing does."""
        most = self._config.scale_weight_norms
        return None if most is None else lambda: self._network.limit_norms(most)

    def _text(self, batch: Inputs) -> Conditioning:
        if batch.tokens is not None:
            return text_states(self._base, batch.tokens, self._config.clip_skip, batch.caption_weights)
        if batch.hidden is None:
            raise RuntimeError("a batch holds neither tokens nor hidden states")
        return Conditioning(batch.hidden, batch.pooled)


def _added(pooled: Tensor | None, time_ids: Tensor | None) -> dict[str, Tensor] | None:
    """SDXL's conditions beside cross-attention; None for UNets without them."""
    return None if pooled is None or time_ids is None else {"text_embeds": pooled, "time_ids": time_ids}
