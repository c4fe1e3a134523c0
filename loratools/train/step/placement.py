"""The frozen base while it is trained: its device and dtype, checkpointing, compilation."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from loratools.base.model import Base
from loratools.base.quiet import quiet
from loratools.train.config.config import TrainConfig
from loratools.train.step.precision import Precision

_SHAPES_COMPILED = 64  # torch.compile's own limit is eight shapes for a module


def cast_and_move(base: Base, precision: Precision) -> None:
    """Cast the UNet and the text encoders to the dtype they are trained in, then move the whole base to the device.

    The cast comes first, on the CPU, so that a full-precision SDXL never has to fit the GPU. The VAE stays as it is.
    """
    with quiet():
        for part in (base.unet, *base.text_encoders):
            part.to(precision.compute)
            part.to(precision.device)
        base.vae.to(precision.device)
    base.device, base.dtype = precision.device, precision.compute


@contextlib.contextmanager
def offloaded(base: Base) -> Iterator[None]:
    """Inside the block, which needs only the VAE, the UNet and the text encoders are in the CPU's memory."""
    parts = (base.unet, *base.text_encoders) if base.device.type == "cuda" else ()
    try:
        for part in parts:
            part.to("cpu")
        torch.cuda.empty_cache() if parts else None
        yield
    finally:
        for part in parts:
            part.to(base.device)


@contextlib.contextmanager
def accelerated(base: Base, config: TrainConfig) -> Iterator[None]:
    """Inside the block the base runs as the config asks: checkpointed, compiled, with cuDNN's benchmark mode."""
    on_gpu = base.device.type == "cuda"
    benchmark = torch.backends.cudnn.benchmark
    parts = (base.unet, *base.text_encoders) if config.compile else ()
    try:
        torch.backends.cudnn.benchmark = on_gpu or benchmark
        if config.gradient_checkpointing:
            base.unet.enable_gradient_checkpointing(_checkpoint_drawing if config.drops else _checkpoint)
        with contextlib.ExitStack() as stack:
            if parts:
                stack.enter_context(_many_shapes())
            for part in parts:
                part.compile(dynamic=False)
            yield
    finally:
        torch.backends.cudnn.benchmark = benchmark
        if config.gradient_checkpointing:
            base.unet.disable_gradient_checkpointing()
        for part in parts:
            part._compiled_call_impl = None


def _checkpoint(module: Any, *inputs: Any) -> Any:
    """Recompute ``module`` in the backward pass, for networks without dropout.

    By default torch saves and restores the generators' state, which reads it on the host: a graph cannot hold that.
    """
    from torch.utils.checkpoint import checkpoint

    return checkpoint(module.__call__, *inputs, use_reentrant=False, preserve_rng_state=False)


def _checkpoint_drawing(module: Any, *inputs: Any) -> Any:
    """As :func:`_checkpoint`, with the same dropout in the recomputation as in the forward pass."""
    from torch.utils.checkpoint import checkpoint

    return checkpoint(module.__call__, *inputs, use_reentrant=False, preserve_rng_state=True)


def _many_shapes() -> contextlib.AbstractContextManager[None]:
    import torch._dynamo

    limit = "recompile_limit" if hasattr(torch._dynamo.config, "recompile_limit") else "cache_size_limit"
    patch: contextlib.AbstractContextManager[None] = torch._dynamo.config.patch({limit: _SHAPES_COMPILED})
    return patch
