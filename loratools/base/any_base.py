"""Load a base of whatever family: Stable Diffusion's for this package's own engine, others for diffusers' pipelines."""

from __future__ import annotations

from pathlib import Path

from loratools.base.base_path import BaseLocation, locate_base
from loratools.base.load import load_base, pick_device, pick_dtype
from loratools.base.model import LoadedBase
from loratools.base.pipelines.folder import is_pipeline_folder
from loratools.base.pipelines.load import load_pipeline


def load_any_base(
    name: str | Path,
    *,
    device: str = "auto",
    dtype: str | None = None,
    parked: bool = False,
    weights: bool = True,
) -> LoadedBase:
    """Load the base model ``name`` to draw with, as :func:`loratools.base.load.load_base` does for Stable Diffusion.

    Args:
        dtype: None takes fp32 on a CPU, and elsewhere fp16 for Stable Diffusion, bf16 for other families.
        parked: leave the weights in main memory, and have only the model that works on the device.
        weights: without them the models have shapes and no numbers, which is enough for a plan.
    Raises:
        BaseModelError: if it cannot be found, is damaged, or nothing here can draw with it.
        UnavailableError: if its weights need a package that is not installed.
    """
    location = locate_base(name)
    if not is_pipeline(location):
        return load_base(name, device=device, dtype=dtype, parked=parked, weights=weights)
    target = pick_device(device)
    half = pick_dtype(dtype, target, half="bf16")
    base = load_pipeline(location, device=target, dtype=half, offload=parked, weights=weights)
    base.digest, base.source = location.digest(), str(name)
    return base


def is_pipeline(location: BaseLocation) -> bool:
    """Whether the base at ``location`` is drawn by diffusers' own pipeline; nothing is loaded.

    Raises:
        BaseModelError: if its index cannot be read.
    """
    return location.path.is_dir() and is_pipeline_folder(location.path)
