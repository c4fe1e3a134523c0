"""Sizes of pictures and of their latents, by a VAE's scale factor. No torch here."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from loratools.errors import GridError

USUAL_SCALE_FACTOR = 8  # of every published SD 1.x, SD 2.x and SDXL VAE
LATENT_CHANNELS = 4


def vae_scale_factor(vae_config: Mapping[str, Any]) -> int:
    """Pixels of a picture along one side for each latent: every level of the VAE but the last one halves the side.

    Args:
        vae_config: the VAE's Diffusers config.
    """
    return int(2 ** (len(vae_config["block_out_channels"]) - 1))


def scale_factor_of_folder(base: Path) -> int:
    """The scale factor of the Diffusers folder ``base``, from its VAE's config alone; what all known families have (8)
    where there is no such config."""
    try:
        config = json.loads((base / "vae" / "config.json").read_text(encoding="utf-8"))
        return vae_scale_factor(config)
    except (OSError, ValueError, KeyError, TypeError):
        return USUAL_SCALE_FACTOR


def check_size(size: Sequence[int], scale_factor: int) -> None:
    """Raise GridError unless ``size``, (height, width) in pixels, is made of whole latents."""
    if any(side < scale_factor or side % scale_factor for side in size):
        raise GridError(
            f"a size of {size[1]}x{size[0]} does not fit; width and height must be multiples of {scale_factor}"
        )


def latent_shape(size: Sequence[int], scale_factor: int = USUAL_SCALE_FACTOR) -> tuple[int, int, int, int]:
    """(1, 4, height / factor, width / factor): the shape of one picture's latents; ``size`` is (height, width)."""
    return 1, LATENT_CHANNELS, size[0] // scale_factor, size[1] // scale_factor
