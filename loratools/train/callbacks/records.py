"""What a run reports of each step and each epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class StepRecord:
    """One optimiser step, as the log has it; ``average`` is the moving average of the loss up to it."""

    step: int
    epoch: int
    loss: float
    lr_unet: float
    lr_te: float
    seconds: float
    average: float


@dataclass(frozen=True)
class EpochRecord:
    """One finished epoch: its mean loss over all samples, its file and the file's digest.

    ``metrics`` is what callbacks measured, by name, such as ``validation``; it is empty before ``on_epoch`` is called.
    """

    epoch: int
    step: int
    loss: float
    seconds: float
    path: Path
    digest: str
    metrics: Mapping[str, float] = field(default_factory=dict)


OnEpoch = Callable[[EpochRecord], None]
OnStep = Callable[[StepRecord], None]
OnNote = Callable[[str], None]
