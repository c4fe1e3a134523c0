"""What goes into one step and what comes out of it, as tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from loratools.base.model import Base
from loratools.base.prompt.conditioning import Conditioning
from loratools.train.data.dataset import Dataset, Sample


@dataclass(frozen=True)
class Inputs:
    """A batch. Of the text, either ``tokens`` for encoders that are trained, or ``hidden`` (and ``pooled``).

    Args:
        mean, deviation: of the posterior, (b, 4, h, w).
        tokens: (b, chunks, 77) for each text encoder.
        hidden: the text encoders' states, (b, 75 * chunks + 2, c).
        weight: (b,) each sample's in the loss, None where all count as one.
        pooled: SDXL's projected state, (b, p).
        caption_weights: for each text encoder the weights of its states, (b, 75 * chunks + 2), of tokens with weights.
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
    caption_weights: tuple[Tensor, ...] | None = None
    mask: Tensor | None = None

    def with_text(self, states: Conditioning) -> Inputs:
        """The same batch with the states of text encoders that are not trained."""
        return replace(self, hidden=states.hidden, pooled=states.pooled)

    def to(self, device: torch.device, *, copy: bool = False) -> Inputs:
        """The same batch on ``device``; from pinned memory without waiting."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True, copy=copy))

    def pinned(self) -> Inputs:
        """The same batch in page-locked memory, from which a GPU can copy by itself."""
        return self._map(Tensor.pin_memory)

    def _map(self, change: Callable[[Tensor], Tensor]) -> Inputs:
        return Inputs(**{field.name: _map(getattr(self, field.name), change) for field in fields(self)})


@dataclass(frozen=True)
class Micro:
    """One micro-batch of this process: rows ``first`` to ``last`` of the ``total`` rows that all processes draw for.

    ``share`` is this part's share of the optimiser step's samples: its weight in the loss. ``seed`` is what this
    micro-batch's draws are a function of.
    """

    first: int
    last: int
    total: int
    share: float
    seed: int


@dataclass(frozen=True)
class Outcome:
    """Of one step or micro-batch, on the device: ``loss`` (its share, or the step's), per-sample losses, timesteps."""

    loss: Tensor
    losses: Tensor
    timesteps: Tensor

    def clone(self) -> Outcome:
        """A copy that the next replay of a graph does not overwrite."""
        return Outcome(self.loss.clone(), self.losses.clone(), self.timesteps.clone())


def size_conditioning(base: Base, dataset: Dataset, batch: Sequence[Sample]) -> Tensor | None:
    """``time_ids`` (b, 6) of a batch for SDXL, None for other families."""
    if base.family != "sdxl":
        return None
    return torch.tensor([dataset.time_ids(sample) for sample in batch], dtype=torch.float32)


def _map(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, (tuple, list)):
        return tuple(_map(part, change) for part in value)
    return change(value) if torch.is_tensor(value) else value
