"""Mixed precision: what the forward pass computes in, and the loss scaling that goes with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from loratools.dtypes import torch_dtype
from loratools.errors import UnavailableError
from loratools.train.config.config import TrainConfig


@dataclass(frozen=True)
class Precision:
    """What the forward pass computes in; what is trained, its gradients and the optimiser stay in float32, but for a
    full training's ``weights: bf16``.

    The base is kept in that dtype and nothing is cast on the way: norms, softmax and products sum in float32 inside
    their kernels anyway, and autocast's float32 norms would write and read every activation twice as wide.
    """

    name: Literal["no", "fp16", "bf16"]
    device: torch.device

    @property
    def compute(self) -> torch.dtype:
        """The dtype that the base is kept in while training."""
        return torch.float32 if self.name == "no" else torch_dtype(self.name)

    def scaler(self) -> torch.amp.GradScaler:
        """Loss scaling, which only fp16 needs; it starts low, so that the first steps are not lost to overflow."""
        return torch.amp.GradScaler(self.device.type, init_scale=2.0**12, enabled=self.name == "fp16")


def pick_precision(config: TrainConfig, device: torch.device) -> Precision:
    """The config's mixed precision, or bf16 where the weights are or the device has it, and full precision elsewhere.

    Raises:
        UnavailableError: if fp16 is asked for on a CPU.
    """
    if config.mixed_precision == "fp16" and device.type == "cpu":
        raise UnavailableError("mixed precision fp16 needs a GPU; use `mixed_precision=no` (or bf16) on a CPU")
    if config.weights == "bf16":
        return Precision("bf16", device)
    fast = device.type == "cuda" and torch.cuda.is_bf16_supported()
    return Precision(config.mixed_precision or ("bf16" if fast else "no"), device)
