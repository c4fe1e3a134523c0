"""How much memory, time and disk a run may take: rough models, good to a factor of two, and said to be so.

Operations: a UNet does about 2 x parameters x positions / 9 of them for a picture, positions being the latent's (SD1.5
at 512: 0.8e12). A step goes forward once and back once through the frozen weights, and whatever its size it takes a
time for each trained module, in which its kernels are started. Activations: about 600 times the
first block's output for each picture of a batch, and a fifth of that with checkpoints. SD1.5 at 512 in bf16 comes to
3.6 and 8.0 GiB at batch 1 and 4, where 3.5 and 7.7 were measured (benchmarks/results/training.md).
"""

from __future__ import annotations

import time
from typing import Any

import torch

from loratools.base.model import Base
from loratools.base.to_device import wait_for
from loratools.train.config.config import TrainConfig
from loratools.train.output.run_folder import staying

_ADAM = 16  # bytes a trained parameter: weight, gradient and two moments in float32
_EIGHT_BIT = 10  # with moments of one byte each
_REUSE = 9
_ACTIVATIONS = 600
_CHECKPOINTED = 0.2
_EFFICIENCY = {"cpu": 0.25, "cuda": 0.4}  # of a large product's speed, which a UNet's small ones reach
_STARTED = {"cpu": 5e-4, "cuda": 7e-4, "graph": 1e-4}  # seconds a trained module and batch


def memory(
    base: Base,
    parameters: int,
    positions: int,
    bytes_each: int,
    *,
    optimizer: str = "AdamW",
    checkpoints: bool = False,
) -> int:
    """Bytes of a step: the frozen base, the trained parameters with their optimiser, and the batch's activations.

    Args:
        positions: latent positions of the largest batch, all its images together.
        bytes_each: of the type that is computed in.
        optimizer: its name; one in 8 bits keeps less.
        checkpoints: activations are computed twice instead of kept.
    """
    frozen: int = sum(p.numel() for part in (base.unet, *base.text_encoders) for p in part.parameters())
    learned = parameters * (_EIGHT_BIT if "8bit" in optimizer.lower() else _ADAM)
    return frozen * bytes_each + learned + activations(base, positions, bytes_each, checkpoints=checkpoints)


def activations(base: Base, positions: int, bytes_each: int, *, checkpoints: bool) -> int:
    """Bytes of a batch's activations; arguments as for :func:`memory`."""
    unet: Any = base.unet
    channels: int = unet.config.block_out_channels[0]
    return round(_ACTIVATIONS * (_CHECKPOINTED if checkpoints else 1) * positions * channels * bytes_each)


def operations(base: Base, positions: int) -> float:
    """Floating-point operations of all steps; ``positions`` is the sum of latent positions over all samples."""
    parameters: int = sum(p.numel() for p in base.unet.parameters())
    return 2.0 * 2 * parameters * positions / _REUSE


def seconds(
    operations: float, batches: int, modules: int, device: torch.device, dtype: torch.dtype, *, graph: bool
) -> float:
    """How long a run takes.

    Args:
        operations: see :func:`operations`.
        batches: of all epochs.
        modules: that are trained.
        graph: a step runs as a CUDA graph.
    """
    how = "graph" if graph and device.type == "cuda" else device.type
    return operations / throughput(device, dtype) + batches * modules * _STARTED.get(how, _STARTED["cuda"])


def files(config: TrainConfig, steps: int) -> int:
    """How many LoRA files a run of ``steps`` steps leaves: of its epochs, or every ``save_every_epochs`` and the last,
    and of every ``save_every_steps``.
    """
    of_epochs = len(staying(range(1, config.epochs + 1), config.save_every_epochs, config.save_last_n))
    of_steps = steps // config.save_every_steps if config.save_every_steps else 0
    return of_epochs + min(of_steps, config.save_last_n or of_steps)


def disk(config: TrainConfig, steps: int, file_bytes: int, parameters: int) -> int:
    """The most bytes that a run takes: its files, one more before the oldest goes, and the next state beside the last.

    A state holds the factors, two moments and an average of them, in float32; optimisers with less are over-estimated.
    """
    state = parameters * 4 * (4 if config.ema else 3)
    return (files(config, steps) + 1) * file_bytes + 2 * state


def throughput(device: torch.device, dtype: torch.dtype, size: int = 1024) -> float:
    """Operations a second that this machine may reach, from the fastest of four large products."""
    left = torch.ones(size, size, device=device, dtype=dtype)
    best = float("inf")
    for _ in range(4):
        wait_for(device)
        begun = time.perf_counter()
        for _ in range(4):
            left @ left
        wait_for(device)
        best = min(best, (time.perf_counter() - begun) / 4)
    return _EFFICIENCY.get(device.type, 0.2) * 2 * size**3 / best


def spelled(seconds: float) -> str:
    """``40 s``, ``12 min`` or ``3.5 h``."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
