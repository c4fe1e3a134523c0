"""What differs by the kind of device: copies to one that is busy, numbers that it lacks, memory that torch keeps."""

from __future__ import annotations

import torch
from torch import Tensor


def upload(tensor: Tensor, device: torch.device) -> Tensor:
    """``tensor`` on ``device``, through pinned memory, so that the host does not wait for the device: a copy from
    pageable memory would wait until the device has done all its work."""
    if device.type != "cuda" or tensor.is_cuda:
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def as_float64(tensor: Tensor) -> Tensor:
    """``tensor`` in float64: where it is, or on the CPU where it comes from Apple's GPUs, which have no float64."""
    return (tensor.cpu() if tensor.device.type == "mps" else tensor).double()


def release_cache(device: torch.device) -> None:
    """Give back to the system what torch keeps of a GPU's memory for later; nothing for a CPU."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def wait_for(device: torch.device) -> None:
    """Wait until the device has done all that it was asked for, as a measurement of time has to."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
