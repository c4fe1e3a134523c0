"""Settings that say how a run uses its machine. None of them changes what is learnt, beyond rounding."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

SPEED_ONLY = frozenset({"graph", "gradient_checkpointing", "prefetch", "log_every"})  # change no result


class SpeedConfig(BaseModel):
    """How fast, and in how much memory.

    ``graph`` auto captures a step as one CUDA graph where the steps that are left repay the capture; ``compile``
    puts torch.compile under it, which takes minutes and pays on long runs; ``gradient_checkpointing`` computes the
    UNet's activations twice instead of keeping them.
    """

    graph: Literal["auto", "on", "off"] = "auto"
    compile: bool = False
    gradient_checkpointing: bool = False
    prefetch: Annotated[int, Field(ge=0, le=64)] = 4  # batches prepared ahead in a thread; 0: none
    log_every: Annotated[int, Field(ge=1)] = 10  # steps between readings of the losses from a GPU
