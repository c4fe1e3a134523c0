"""What a captured CUDA graph needs of its surroundings: fixed buffers, a key for each shape, rates in tensors."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from loratools.train.step.batch import Inputs


def device_rates(optimizer: torch.optim.Optimizer, device: torch.device) -> None:
    """On a GPU, make each group's learning rate a tensor and the optimiser's step capturable, where it can be.

    Call it again after ``load_state_dict``, which brings back what was saved, perhaps on another device.
    """
    if not _capturable(optimizer):
        return
    on_gpu = device.type == "cuda"
    for group in optimizer.param_groups:
        rate = float(group["lr"])
        group["lr"] = torch.tensor(rate, dtype=torch.float32, device=device) if on_gpu else rate
        group["capturable"] = on_gpu
        for factor in group["params"]:  # of a state that was loaded
            state = optimizer.state.get(factor, {})
            if on_gpu and torch.is_tensor(state.get("step")):
                state["step"] = state["step"].to(device)
    setattr(optimizer, "_warned_capturable_if_run_uncaptured", True)  # noqa: B010  (the first steps are eager)


def set_rate(group: dict[str, Any], rate: float) -> None:
    """Set a group's learning rate, in place where it is a tensor that a graph reads."""
    if torch.is_tensor(group["lr"]):
        group["lr"].fill_(rate)
    else:
        group["lr"] = rate


def steps_on_device(optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler) -> bool:
    """Whether the optimiser's step reads nothing on the host, so that it can be part of a graph."""
    skips = not scaler.is_enabled() or bool(getattr(optimizer, "_step_supports_amp_scaling", False))
    return skips and all(bool(group.get("capturable")) for group in optimizer.param_groups)


def shape_key(inputs: Inputs) -> Hashable:
    """What a graph is captured for: the shape and type of every input that is there."""
    return tuple(_described(getattr(inputs, field.name)) for field in fields(inputs))


def copy_into(static: Inputs, inputs: Inputs) -> None:
    """Overwrite the buffers of ``static`` by ``inputs`` of the same shapes."""
    for field in fields(inputs):
        for into, value in zip(_leaves(getattr(static, field.name)), _leaves(getattr(inputs, field.name)), strict=True):
            into.copy_(value, non_blocking=True)


def _capturable(optimizer: torch.optim.Optimizer) -> bool:
    return type(optimizer).__module__.startswith(("torch.optim", "loratools.")) and "capturable" in optimizer.defaults


def _leaves(value: Any) -> list[Tensor]:
    if isinstance(value, (tuple, list)):
        return [leaf for part in value for leaf in _leaves(part)]
    return [value] if torch.is_tensor(value) else []


def _described(value: Any) -> Hashable:
    if isinstance(value, (tuple, list)):
        return tuple(_described(part) for part in value)
    return (tuple(value.shape), str(value.dtype)) if torch.is_tensor(value) else value
