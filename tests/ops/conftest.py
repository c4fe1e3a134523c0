"""Random LoRA files of every kind, and dense float64 sums to hold the operations against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from loratools.adapter.architectures.names import kohya_name
from loratools.adapter.files.file import read
from loratools.blocks.presets import load_presets
from loratools.ops.merging.merge_string import parse_merge_string
from loratools.ops.merging.terms import Term, resolve_terms

PRESETS = load_presets()
LINEAR = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
POINT = "unet.mid_block.attentions.0.proj_in"
CONV = "unet.down_blocks.0.resnets.0.conv1"
TEXT = "text_encoder.text_model.encoder.layers.0.mlp.fc1"
SHAPES = {LINEAR: (12, 8), POINT: (6, 10, 1, 1), CONV: (6, 4, 3, 3), TEXT: (16, 9)}


@dataclass(frozen=True)
class Made:
    """How one random LoRA is drawn; ``zero`` modules are all zero, as clip skip leaves them."""

    kind: str = "lora"
    rank: int = 3
    alpha: float | None = 1.5
    seed: int = 0
    zero: tuple[str, ...] = ()
    names: tuple[str, ...] = tuple(SHAPES)

    def save(self, path: Path, dtype: torch.dtype = torch.float32) -> Path:
        """Write it with the safetensors library."""
        random = torch.Generator().manual_seed(self.seed)
        tensors: dict[str, Tensor] = {}
        for name in self.names:
            factors = _FACTORS[self.kind](SHAPES[name], self.rank, random)
            factors = {key: tensor * (name not in self.zero) for key, tensor in factors.items()}
            if self.alpha is not None and self.kind != "diff":
                factors["alpha"] = torch.tensor(self.alpha)
            stem = kohya_name(name, "sd1")
            tensors |= {f"{stem}.{key}": tensor.to(dtype).contiguous() for key, tensor in factors.items()}
        save_file(tensors, path)
        return path


def _lora(shape: Sequence[int], rank: int, random: torch.Generator) -> dict[str, Tensor]:
    ones = (1,) * (len(shape) - 2)
    return {
        "lora_up.weight": torch.randn(shape[0], rank, *ones, generator=random),
        "lora_down.weight": torch.randn(rank, *shape[1:], generator=random),
    }


def _loha(shape: Sequence[int], rank: int, random: torch.Generator) -> dict[str, Tensor]:
    columns = torch.Size(shape[1:]).numel()
    sizes = {"a": (shape[0], rank), "b": (rank, columns)}
    return {f"hada_w{n}_{side}": torch.randn(*sizes[side], generator=random) for n in "12" for side in "ab"}


def _lokr(shape: Sequence[int], rank: int, random: torch.Generator) -> dict[str, Tensor]:
    return {
        "lokr_w1": torch.randn(2, 1, generator=random),
        "lokr_w2_a": torch.randn(shape[0] // 2, rank, generator=random),
        "lokr_w2_b": torch.randn(rank, torch.Size(shape[1:]).numel(), generator=random),
    }


def _diff(shape: Sequence[int], rank: int, random: torch.Generator) -> dict[str, Tensor]:
    return {"diff": torch.randn(*shape, generator=random)}


_FACTORS = {"lora": _lora, "loha": _loha, "lokr": _lokr, "diff": _diff}
KINDS = tuple(_FACTORS)


def terms(text: str, missing: float | None = None, **files: Path) -> list[Term]:
    """The terms of a merge string over ``files`` by name."""
    return resolve_terms(parse_merge_string(text), lambda ref: files[ref], presets=PRESETS, missing=missing)


def dense(path: Path) -> dict[str, Tensor]:
    """A file's differences as float64 matrices."""
    adapter = read(path)
    return {name: adapter.delta(name, torch.float64).dense().reshape(adapter.shapes[name][0], -1) for name in adapter}


def distance(path: Path, asked: dict[str, Tensor]) -> float:
    """``|file - asked| / |asked|`` over all modules; a module that the file lacks counts as zero."""
    stored = dense(path)
    lost = torch.cat([(stored.get(name, torch.zeros(())) - matrix).flatten() for name, matrix in asked.items()])
    return float(lost.norm() / torch.cat([matrix.flatten() for matrix in asked.values()]).norm())
