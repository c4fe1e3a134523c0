"""Tiny random models for tests: SD1's module tree at a fraction of the pocket's widths, saved as a Diffusers folder."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from loratools.pocket.architecture import Widths
from loratools.pocket.assemble import build_parts, save_folder
from loratools.pocket.tokenizer import train_tokenizer

TINY = Widths(
    unet=(16, 16, 32, 32),
    unet_groups=8,
    heads=2,
    vae=(8, 8, 16, 16),
    vae_groups=4,
    text=16,
    text_layers=2,
    resolution=64,
)
WORDS = ["1girl, red hair, smile", "blue eyes, cowboy shot", "full body, face focus", "ink style, waving, hat"] * 20


def save_tiny_base(folder: Path, *, seed: int = 0, dtype: torch.dtype = torch.float32, widths: Widths = TINY) -> Path:
    """Write a random SD1-shaped base to ``folder`` (about 0.3 M parameters, 64 x 64 pictures) and return it."""
    train_tokenizer(WORDS, folder / "tokenizer", vocabulary=600)
    vocabulary = 1 + max(json.loads((folder / "tokenizer/vocab.json").read_text()).values())
    torch.manual_seed(seed)
    unet, vae, text_encoder = build_parts(widths, vocabulary, scaling_factor=0.5)
    save_folder(folder, unet, vae, text_encoder, dtype)
    return folder
