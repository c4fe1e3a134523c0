"""LoRA files for tests: random kohya files on SD1's, SD2's and SDXL's module trees, as narrow as one likes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from loratools.adapter.architectures.names import kohya_name, lora_targets

_TRAINED = Path(__file__).parents[1] / "../shared/fixtures"


@dataclass(frozen=True)
class Sizes:
    """Channel counts of a made-up model."""

    channels: tuple[int, ...] = (8, 12, 16, 16)
    text: int = 8
    context: int = 8


TINY = Sizes()
SD15 = Sizes((320, 640, 1280, 1280), 768, 768)
TINY_XL = Sizes((8, 12, 16), 8, 10)


def shape_of(name: str, sizes: Sizes, *, linear: bool = False) -> tuple[int, ...]:
    """The weight's shape of a module by canonical name."""
    parts, last = name.split("."), name.split(".")[-1]
    if parts[0].startswith("text_encoder"):
        h = sizes.text
        return {"fc1": (4 * h, h), "fc2": (h, 4 * h)}.get(last, (h, h))
    c = _channels(parts, sizes)
    if last in ("proj_in", "proj_out"):
        return (c, c) if linear else (c, c, 1, 1)
    if last == "time_emb_proj":
        return (c, 4 * sizes.channels[0])
    if last == "conv_shortcut":
        return (c, c, 1, 1)
    if last in ("conv1", "conv2", "conv", "conv_in", "conv_out"):
        return (c, c, 3, 3)
    if parts[-3:] == ["net", "0", "proj"]:
        return (8 * c, c)
    if parts[-3:] == ["ff", "net", "2"]:
        return (c, 4 * c)
    cross = "attn2" in parts and last in ("to_k", "to_v")
    return (c, sizes.context if cross else c)


def _channels(parts: list[str], sizes: Sizes) -> int:
    if parts[1] == "down_blocks":
        return sizes.channels[int(parts[2])]
    if parts[1] == "up_blocks":
        return sizes.channels[len(sizes.channels) - 1 - int(parts[2])]
    return sizes.channels[-1] if parts[1] == "mid_block" else sizes.channels[0]


def lora_tensors(
    family: str = "sd1",
    *,
    rank: int = 4,
    alpha: float | None = 2.0,
    sizes: Sizes = TINY,
    names: Iterable[str] | None = None,
    conv: bool = False,
    seed: int = 0,
    dtype: torch.dtype = torch.float16,
    size: float = 1e-2,
) -> dict[str, Tensor]:
    """Random factors for every module that sd-scripts trains (or ``names``), as kohya keys."""
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, Tensor] = {}
    for name in names if names is not None else lora_targets(family, conv=conv):
        shape, stem = shape_of(name, sizes, linear=family == "sdxl"), kohya_name(name, family)
        ones = (1,) * (len(shape) - 2)
        up = size * torch.randn(shape[0], rank, *ones, generator=generator)
        down = 0.1 * torch.randn(rank, *shape[1:], generator=generator)
        tensors[f"{stem}.lora_up.weight"] = up.to(dtype)
        tensors[f"{stem}.lora_down.weight"] = down.to(dtype)
        if alpha is not None:
            tensors[f"{stem}.alpha"] = torch.tensor(alpha, dtype=dtype)
    return tensors


def trained(name: str) -> Path:
    """A file that sd-scripts trained, ``style-r8a4`` or ``base-r4a1``; where there is none, the test is skipped."""
    path = _TRAINED / f"sdscripts-sd15-{name}.safetensors"
    if not path.is_file():
        pytest.skip(f"{path} is not here: a file that sd-scripts trained, which lies beside the repository")
    return path


def save(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> Path:
    """Write tensors with the safetensors library."""
    save_file(dict(tensors), path, metadata=dict(metadata or {}))
    return path
