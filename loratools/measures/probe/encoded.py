"""Pictures as a base's latents, in batches of one size: what every reading by its UNet starts from.

A picture that carries gradients goes the same way without being saved in between: what it lacks is the rounding to 8
bits, and where it has to be resized, the rounding of Pillow's result.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from loratools.base.model import Base
from loratools.base.vae import encode
from loratools.dtypes import widened
from loratools.measures.last_batch import LastBatch
from loratools.measures.measure import Shown
from loratools.measures.smooth import SmoothBatch

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


class PictureEncoder:
    """Pictures -> their batches; what the last pictures became is kept for the next reader of them."""

    def __init__(self, base: Base) -> None:
        self._base = base
        self._kept = LastBatch(lambda pictures: encoded(base, pictures))

    def __call__(self, pictures: Sequence[Shown]) -> tuple[EncodedBatch, ...]:
        return self._kept(pictures)

    def smooth(self, drawn: SmoothBatch) -> EncodedBatch:
        """Pictures that carry gradients, which are of one size."""
        pixels = fit_pixels(drawn.images, self._base) * 2 - 1
        latents: Tensor = checkpoint(lambda own: _latents(self._base, own, gradients=True), pixels, use_reentrant=False)
        return EncodedBatch(tuple(range(len(latents))), latents, (pixels.shape[-2], pixels.shape[-1]))


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
            batches.append(EncodedBatch(tuple(part), _latents(base, tensor), (height, width)))
    return tuple(batches)


def _latents(base: Base, pixels: Tensor, *, gradients: bool = False) -> Tensor:
    """(b, c, h, w) of pixels (b, 3, height, width) in -1..1."""
    latents: Tensor = widened(encode(base.vae, pixels, gradients=gradients).mean) * base.vae.config.scaling_factor
    return latents


def fit(image: Image, base: Base) -> Image:
    """A picture at a size that the UNet takes: as it is where it fits, else about as large as the base's own pictures.

    Its shape is kept but for what the UNet's steps of 64 pixels cut off.
    """
    from PIL import ImageOps
    from PIL.Image import Resampling

    own = image.convert("RGB")
    size = _fitting(own.size, base)
    return own if size == own.size else ImageOps.fit(own, size, Resampling.LANCZOS)


def fit_pixels(images: Tensor, base: Base) -> Tensor:
    """The same of pictures (n, 3, height, width) in [0, 1], which can be differentiated."""
    height, width = images.shape[-2:]
    size = _fitting((width, height), base)
    if size == (width, height):
        return images
    cut = min(width, height * size[0] / size[1]), min(height, width * size[1] / size[0])  # what of it has the shape
    across, down = (
        torch.from_numpy(_resampling(own, kept, new)).to(images)
        for own, kept, new in zip((width, height), cut, size, strict=True)
    )
    return (down.T @ images @ across).clamp(0, 1)


def _fitting(size: tuple[int, int], base: Base) -> tuple[int, int]:
    """(width, height) that a picture of ``size`` gets."""
    step = base.vae_scale_factor * 2 ** (len(base.unet.config.block_out_channels) - 1)
    height, width = base.resolution
    if all(side % step == 0 for side in size) and size[0] * size[1] <= 2 * height * width:
        return size
    scale = math.sqrt(height * width / (size[0] * size[1]))
    across, down = (max(step, round(side * scale / step) * step) for side in size)
    return across, down


def _resampling(length: int, kept: float, new: int) -> npt.NDArray[np.float32]:
    """Pillow's own resampling of one side as a matrix (length, new), of the middle ``kept`` of ``length`` pixels."""
    from PIL import Image
    from PIL.Image import Resampling

    left = (length - kept) / 2
    each = Image.fromarray(np.eye(length, dtype=np.float32))
    return np.array(each.resize((new, length), Resampling.LANCZOS, box=(left, 0, left + kept, length)))
