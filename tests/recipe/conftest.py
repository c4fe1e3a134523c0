"""A tiny base and a recipe on it; LoRA files of SD1's shape where no training is needed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch

from loratools.adapter.algebra.lowrank import LowRank
from loratools.adapter.files.file import write
from tests.tiny import save_tiny_base


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random SD1-shaped base."""
    return save_tiny_base(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Path]:
    """An empty current folder."""
    before = Path.cwd()
    os.chdir(tmp_path)
    yield tmp_path
    os.chdir(before)


MODULES = {
    "text_encoder.text_model.encoder.layers.0.self_attn.q_proj": (16, 16),
    "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q": (16, 16),
    "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_v": (32, 16),
    "unet.up_blocks.3.attentions.2.transformer_blocks.0.ff.net.2": (16, 64),
}


def save_lora(path: Path, seed: int, rank: int = 2, more: Sequence[str] = ()) -> Path:
    """A LoRA of four modules that fits the tiny base.

    Args:
        more: further layers of OUT11's transformer, each of the shape (16, 16), ``attn1.to_q``.
    """
    shapes = {**MODULES, **{f"unet.up_blocks.3.attentions.2.transformer_blocks.0.{own}": (16, 16) for own in more}}
    generator = torch.Generator().manual_seed(seed)
    deltas = {
        name: LowRank(
            torch.randn(shape[0], rank, generator=generator), torch.randn(rank, shape[1], generator=generator), shape
        )
        for name, shape in shapes.items()
    }
    write(deltas, path, family="sd1", metadata={}, dtype=torch.float32, provenance=None, owner="test")
    return path
