"""Tiny random models for tests: SD1's module tree at a fraction of the pocket's widths, saved as a Diffusers folder."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from loratools.pocket.architecture import Widths
from loratools.pocket.assemble import build_parts, save_folder
from loratools.pocket.tokenizer import write_clip_files

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
# each a token of the tiny tokenizer, and so are digits and commas
LIST = "girl, red, hair, smile, blue, eyes, cowboy, shot, full, body, face, focus, ink, style, waving, hat"
WORDS = LIST.split(", ")
# learnt once: the trainer breaks ties in another order each time, and with it longer prompts would be cut elsewhere
MERGES = """
b o|h a|i n|l e</w>|a c|a v|b l|c o|c u|d y</w>|e y|e d</w>|e s</w>|f o|f u|f ac|g i|h o|i r</w>|i le</w>|
l l</w>|m ile</w>|r l</w>|r ed</w>|s t|s ho|s mile</w>|u e</w>|w bo|w av|y le</w>|bo dy</w>|ha t</w>|
ha ir</w>|in g</w>|in k</w>|bl ue</w>|co wbo|cu s</w>|ey es</w>|fo cus</w>|fu ll</w>|fac e</w>|gi rl</w>|
st yle</w>|sho t</w>|wav ing</w>|cowbo y</w>
"""


def save_tiny_tokenizer(folder: Path) -> int:
    """Write CLIP's tokenizer files with the merges of :data:`WORDS` to ``folder``, and return the vocabulary's size."""
    from tokenizers import pre_tokenizers

    merges = [tuple(pair.split()) for pair in MERGES.replace("\n", "").split("|")]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    write_clip_files([(left, right) for left, right in merges], alphabet, folder)
    return len(json.loads((folder / "vocab.json").read_text(encoding="utf-8")))


def save_tiny_base(folder: Path, *, seed: int = 0, dtype: torch.dtype = torch.float32, widths: Widths = TINY) -> Path:
    """Write a random SD1-shaped base to ``folder`` (about 0.3 M parameters, 64 x 64 pictures) and return it."""
    vocabulary = save_tiny_tokenizer(folder / "tokenizer")
    torch.manual_seed(seed)
    unet, vae, text_encoder = build_parts(widths, vocabulary, scaling_factor=0.5)
    save_folder(folder, unet, vae, text_encoder, dtype)
    return folder
