"""Networks for the tests of this folder, on the tiny base."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from loratools.adapter.files.save import write
from loratools.base.model import Base
from loratools.train.config.network import NetworkConfig
from loratools.train.network.network import Network

QUERY = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
CONV = "unet.down_blocks.1.resnets.0.conv1"
TEXT = "text_encoder.text_model.encoder.layers.0.mlp.fc1"


def make_network(base: Base, rank: int = 4, alpha: float | None = 2, **options: Any) -> Network:
    return Network(base, rank, alpha, 0, options=NetworkConfig(**options))


def move_factors(network: Network, seed: int = 5) -> Network:
    """The network with every factor away from its start."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in network.layers.values():
            for factor in layer.factors().values():
                factor.add_(0.1 * torch.randn(factor.shape, generator=generator))
    return network


def save_network(network: Network, path: Path, **settings: Any) -> Path:
    write(
        network.deltas(),
        path,
        family="sd1",
        alpha=network.alphas,
        carried=network.extras(torch.float32),
        dtype=torch.float32,
        **settings,
    )
    return path
