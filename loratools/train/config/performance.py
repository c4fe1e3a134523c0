"""Settings of speed and memory. None of them changes what is learnt, beyond rounding."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

PERFORMANCE_SETTINGS = frozenset({"graph", "gradient_checkpointing", "prefetch", "log_every"})  # change no result


class PerformanceConfig(BaseModel):
    """How fast, and in how much memory."""

    graph: Literal["auto", "on", "off"] = Field(
        default="auto", description="a step as one CUDA graph; auto: where the steps that are left repay it"
    )
    compile: bool = Field(default=False, description="by torch.compile: minutes to start; for long runs")
    gradient_checkpointing: bool = Field(
        default=False, description="less memory, more time: the UNet's activations are computed twice"
    )
    prefetch: Annotated[int, Field(ge=0, le=64)] = Field(
        default=4, description="batches that are prepared ahead in a thread; 0: none"
    )
    log_every: Annotated[int, Field(ge=1)] = Field(
        default=10, description="steps between readings of the losses from a GPU"
    )
