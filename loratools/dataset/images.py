"""What of a picture counts in the loss: its own alpha channel, or a picture of the same name in another folder.

As in sd-scripts, a mask is brought to the latents' size by averaging and multiplies the loss there.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageChops, ImageOps
from torch import Tensor

from loratools.errors import DatasetError


def mask_of(path: Path, mask: Path | None, *, alpha: bool) -> Image.Image | None:
    """The mask of the image at ``path`` in its own size, mode L; None where all of it counts.

    Where it has an alpha channel that is asked for, and a picture ``mask`` as well, both have to let a place through.

    Raises:
        DatasetError: if a file cannot be decoded, or the mask is of another size than its image.
    """
    opacity = _alpha(path) if alpha else None
    if mask is None:
        return opacity
    given = _opened(mask).convert("RGB").getchannel("R")
    size = opacity.size if opacity is not None else _opened(path).size
    if given.size != size:
        raise DatasetError(
            f"the mask {mask} is {given.width}x{given.height}, its image {path} {size[0]}x{size[1]}; make it as large"
        )
    return given if opacity is None else ImageChops.multiply(given, opacity)


def at_latent_size(mask: Image.Image, scale: int, flipped: bool) -> Tensor:
    """(1, h, w) in 0..1: the mean of each ``scale`` x ``scale`` pixels, mirrored if the picture is."""
    values = torch.from_numpy(np.asarray(mask, dtype=np.float32).copy())[None] / 255
    pooled = torch.nn.functional.avg_pool2d(values, scale)
    return pooled.flip(-1) if flipped else pooled


def has_alpha(image: Image.Image) -> bool:
    """Whether an image may be transparent somewhere."""
    return "A" in image.getbands() or "transparency" in image.info


def on_white(image: Image.Image) -> Image.Image:
    """The image as RGB, with white where it is transparent."""
    if not has_alpha(image):
        return image.convert("RGB")
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def unreadable(path: Path, error: Exception) -> str:
    """What to say of an image that cannot be decoded."""
    reason = "it is no image that can be read" if "identify" in str(error) else str(error)
    return f"the image {path} cannot be read ({reason}); replace it, or take it out of the folder"


def _alpha(path: Path) -> Image.Image | None:
    image = _opened(path)
    return image.convert("RGBA").getchannel("A") if has_alpha(image) else None


def _opened(path: Path) -> Image.Image:
    try:
        with Image.open(path) as file:
            return ImageOps.exif_transpose(file)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DatasetError(unreadable(path, error)) from error
