"""How much memory and time a run may take: rough models, good to a factor of two, and said to be so.

Operations: a UNet does about 2 x parameters x positions / 9 of them for a picture, positions being the latent's (SD1.5
at 512: 0.8e12). A step goes forward once and back once through the frozen weights. Activations: about 1000 times the
first block's output for each picture of a batch, which is what SD1.5's kept tensors come to without checkpointing.
"""

from __future__ import annotations

import time
from typing import Any

import torch

from loratools.base.model import Base

_ADAM = 16  # bytes a trained parameter: weight, gradient and two moments in float32
_REUSE = 9
_ACTIVATIONS = 1000
_EFFICIENCY = 0.4  # of a large product's speed, which a UNet's small ones reach


def memory(base: Base, parameters: int, positions: int, bytes_each: int) -> int:
    """Bytes of a step: the frozen base, the trained parameters with their optimiser, and the batch's activations.

    Args:
        positions: latent positions of the largest batch, all its images together.
        bytes_each: of the type that is computed in.
    """
    frozen: int = sum(p.numel() for part in (base.unet, *base.text_encoders) for p in part.parameters())
    unet: Any = base.unet
    channels: int = unet.config.block_out_channels[0]
    return frozen * bytes_each + parameters * _ADAM + _ACTIVATIONS * positions * channels * bytes_each


def operations(base: Base, positions: int) -> float:
    """Of all steps together; ``positions`` is the sum of latent positions over all samples."""
    parameters: int = sum(p.numel() for p in base.unet.parameters())
    return 2.0 * 2 * parameters * positions / _REUSE


def throughput(device: torch.device, dtype: torch.dtype, size: int = 1024) -> float:
    """Operations a second that this machine may reach, from the fastest of four large products."""
    left = torch.ones(size, size, device=device, dtype=dtype)
    best = float("inf")
    for _ in range(4):
        _wait(device)
        begun = time.perf_counter()
        for _ in range(4):
            left @ left
        _wait(device)
        best = min(best, (time.perf_counter() - begun) / 4)
    return _EFFICIENCY * 2 * size**3 / best


def spelled(seconds: float) -> str:
    """``40 s``, ``12 min`` or ``3.5 h``."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
