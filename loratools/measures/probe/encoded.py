"""Pictures as a base's latents, in batches of one size: what every reading by its UNet starts from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from loratools.base.model import Base
from loratools.base.vae import encode
from loratools.measures.last_batch import LastBatch
from loratools.measures.measure import Shown

if TYPE_CHECKING:
    from PIL.Image import Image

_PIXELS_AT_ONCE = 16 * 512 * 512
_MOST_AT_ONCE = 64


@dataclass(frozen=True, eq=False)
class EncodedBatch:
    """Pictures of one size.

    Attributes:
        places: (b,) where they stand among all pictures.
        latents: (b, c, h, w) in float32, scaled as the UNet takes them.
        size: (height, width) in pixels.
    """

    places: tuple[int, ...]
    latents: Tensor
    size: tuple[int, int]


def picture_encoder(base: Base) -> LastBatch[tuple[EncodedBatch, ...]]:
    """A function from pictures to their batches, which keeps the last pictures' for the next reader of them."""

    def read(pictures: Sequence[Shown]) -> tuple[EncodedBatch, ...]:
        return encoded(base, pictures)

    return LastBatch(read)


@torch.no_grad()
def encoded(base: Base, pictures: Sequence[Shown]) -> tuple[EncodedBatch, ...]:
    """Pictures of any sizes; see :func:`fit`."""
    fitted = [fit(picture.image, base) for picture in pictures]
    batches: list[EncodedBatch] = []
    for width, height in dict.fromkeys(image.size for image in fitted):
        own = [n for n, image in enumerate(fitted) if image.size == (width, height)]
        at_once = max(1, min(_MOST_AT_ONCE, _PIXELS_AT_ONCE // (width * height)))
        for start in range(0, len(own), at_once):
            part = own[start : start + at_once]
            pixels = np.stack([np.asarray(fitted[n], dtype=np.float32) for n in part])
            tensor = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 127.5 - 1
            latents = encode(base.vae, tensor).mean.float() * base.vae.config.scaling_factor
            batches.append(EncodedBatch(tuple(part), latents, (height, width)))
    return tuple(batches)


def fit(image: Image, base: Base) -> Image:
    """A picture at a size that the UNet takes: as it is where it fits, else about as large as the base's own pictures.

    Its shape is kept but for what the UNet's steps of 64 pixels cut off.
    """
    from PIL import ImageOps
    from PIL.Image import Resampling

    step = base.vae_scale_factor * 2 ** (len(base.unet.config.block_out_channels) - 1)
    height, width = base.resolution
    own = image.convert("RGB")
    if own.width % step == 0 and own.height % step == 0 and own.width * own.height <= 2 * height * width:
        return own
    scale = math.sqrt(height * width / (own.width * own.height))
    fitted = tuple(max(step, round(side * scale / step) * step) for side in own.size)
    return ImageOps.fit(own, (fitted[0], fitted[1]), Resampling.LANCZOS)
