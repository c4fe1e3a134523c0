"""What a run trains, whichever kind it is: LoRA layers beside a frozen base, or all of the base's own weights."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from loratools.train.config.config import TrainConfig


@dataclass(frozen=True)
class TrainedParameter:
    """One parameter that an optimiser moves, in float32.

    Attributes:
        component: ``unet``, ``text_encoder`` or ``text_encoder_2``.
        factor: on the learning rate of its component: its block's, and LoRA+'s.
    """

    parameter: nn.Parameter
    component: str
    factor: float = 1.0


class TrainedWeights(ABC):
    """The trained parameters of one run, and what they are part of: all that steps, states and files ask of them."""

    @abstractmethod
    def parameters(self, config: TrainConfig) -> Iterator[TrainedParameter]:
        """Everything that is trained, in an order that does not change."""

    @property
    @abstractmethod
    def sizes(self) -> Mapping[str, int]:
        """Trained parameters of each module, by its canonical name."""

    @abstractmethod
    def attached(self) -> contextlib.AbstractContextManager[None]:
        """Inside the block the base computes with what is trained, and a backward pass gives it gradients."""

    @abstractmethod
    def without_dropout(self) -> contextlib.AbstractContextManager[None]:
        """Inside the block no dropout is applied: for samples and validation."""

    @abstractmethod
    def scaled(self, te: float, unet: float) -> contextlib.AbstractContextManager[None]:
        """Inside the block what was learnt counts ``te`` times in text encoders, and ``unet`` times in the UNet."""

    def held(self, parameter: nn.Parameter) -> Tensor:
        """The tensor that holds a trained parameter's weights between steps; whoever changes it calls
        :meth:`weights_changed`."""
        return parameter

    @contextlib.contextmanager
    def averaged(self, mean: Callable[[Tensor], Tensor]) -> Iterator[None]:
        """Inside the block the weights are averages, and ``mean`` has those of each held tensor in float32; whoever
        holds weights in a coarser type makes files of these."""
        yield

    @abstractmethod
    def weights_changed(self) -> None:
        """Have the base compute with the weights as they are now; after an optimiser's step, or after they were set."""

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        """The weights as they are, for resuming; copies on the CPU."""

    @abstractmethod
    def load(self, state: Mapping[str, Tensor]) -> None:
        """Set the weights to what :meth:`state` returned."""

    @abstractmethod
    def tensors(self) -> list[Tensor]:
        """Every trained tensor as it is held."""

    def finite(self) -> bool:
        """Whether every weight is finite; one synchronisation with the device."""
        return bool(torch.stack([tensor.detach().isfinite().all() for tensor in self.tensors()]).all())

    def limit_norms(self, most: float) -> None:
        """Scale every trained difference down to the Frobenius norm ``most``; reads nothing on the host."""
        raise NotImplementedError

    @property
    def inputs(self) -> list[dict[str, str]]:
        """Name, digest and kind of the files that training starts from beside the base, for headers."""
        return []

    @property
    def ancestors(self) -> Mapping[str, Mapping[str, Any]]:
        """How those files were made, by digest."""
        return {}
