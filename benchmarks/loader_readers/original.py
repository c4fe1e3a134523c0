"""For readers that patch the original networks' weights: bare models that only have keys, and the sum of patches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from benchmarks.loader_readers.measure import Asked, Reading

UNETS: dict[
    str, dict[str, Any]
] = {  # what ComfyUI's and Forge's detection says of the real models; Flux at 1 + 1 blocks
    "sd1": {
        "num_res_blocks": [2, 2, 2, 2],
        "channel_mult": [1, 2, 4, 4],
        "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
        "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
        "transformer_depth_middle": 1,
    },
    "sdxl": {
        "num_res_blocks": [2, 2, 2],
        "channel_mult": [1, 2, 4],
        "transformer_depth": [0, 0, 2, 2, 10, 10],
        "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10],
        "transformer_depth_middle": 10,
    },
    "flux": {"depth": 1, "depth_single_blocks": 1, "hidden_size": 3072},
}


def stand_in(kind: type, shapes: Mapping[str, tuple[int, ...]], **attributes: Any) -> Any:
    """An object of a model's class with nothing but the keys of its weights and ``attributes``: maps ask no more."""
    methods = {"__init__": lambda self: None, "state_dict": lambda self: dict(shapes), **attributes}
    return type(kind.__name__, (kind,), methods)()


def summed(
    asked: Asked, patches: Mapping[Any, Any], apply: Callable[[list[tuple[Any, ...]], Tensor, str], Tensor]
) -> Reading:
    """All patches of each weight together, compared with what was asked of it.

    A patch's target is a weight, or a weight and some of its rows (Flux' fused query, key and value).
    """
    sums: dict[str, Tensor] = {}
    for target, patch in patches.items():
        key, offset = (target, None) if isinstance(target, str) else target[:2]
        before = sums.get(key)
        zero = torch.zeros(asked.shapes[key]) if before is None else before
        sums[key] = apply([(1.0, patch, 1.0, offset, None)], zero, key)
    return Reading(len(asked.shapes), {key: asked.compare(key, total) for key, total in sums.items()})
