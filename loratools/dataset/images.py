"""The pixels of one picture: opened, fitted to a size, varied in colour, and what of them counts in the loss.

Every picture and mask is opened by :func:`_opened`: upright, the first frame, with 8 bits a channel.

As in sd-scripts, a mask (the picture's own alpha channel, or a picture of the same name in another folder) multiplies
the loss.
"""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops, ImageEnhance, ImageOps, UnidentifiedImageError

from loratools.dataset.bit_depth import is_wide, to_eight_bits
from loratools.dataset.folder import IMAGE_EXTENSIONS, Size
from loratools.errors import DatasetError

# what Pillow raises for a broken file
_UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, struct.error, Image.DecompressionBombError)
INTERPOLATIONS = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_CHANGE = 1 / 3  # chance of a change of colour, as in sd-scripts
_HUE = 16 / 360  # of the circle, either way: sd-scripts' 8 of OpenCV's 180
_BRIGHTNESS = 0.25  # either way: what sd-scripts' exponent on 0..255 comes to
_CONVERTIBLE = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK")  # modes that always convert
_ORIENTATION = 0x0112  # EXIF and TIFF tag; from 5 on width and height change places
_GREY = 8  # most that red, green and blue differ in a picture without colour: JPEG leaves a few


@dataclass(frozen=True)
class ImageHeader:
    """What is known of a picture without its pixels: its size as it is seen, if it may be transparent, if it moves."""

    size: Size
    transparent: bool
    animated: bool


def read_header(path: Path) -> ImageHeader:
    """The header of the picture at ``path``; its pixels are decoded only where the header is not enough.

    Raises:
        DatasetError: if it is none, or has values of which :func:`open_image` cannot tell what is white.
    """
    try:
        with Image.open(path) as image:
            turned = image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
            size, transparent = image.size, has_alpha(image)
            animated = image.format != "MPO" and getattr(image, "is_animated", False)
            decode = is_wide(image) or image.mode not in _CONVERTIBLE or (turned and image.format == "TIFF")
    except _UNREADABLE as error:
        raise DatasetError(unreadable(path, error)) from error
    if decode:  # Pillow turns a TIFF's size by itself, in some versions
        size = _opened(path).size
    elif turned:
        size = size[1], size[0]
    return ImageHeader(size, transparent, animated)


def is_grey(path: Path) -> bool:
    """Whether a picture has no colour, but for one pixel in a hundred.

    Raises:
        DatasetError: if the file cannot be decoded.
    """
    return has_no_color(_opened(path))


def has_no_color(image: Image.Image) -> bool:
    """Whether an image has no colour, but for one pixel in a hundred."""
    if image.mode in ("1", "L", "LA"):
        return True
    image = image.copy()
    image.thumbnail((256, 256))
    red, green, blue = (np.asarray(channel) for channel in on_white(image).split())
    highest, lowest = np.maximum(np.maximum(red, green), blue), np.minimum(np.minimum(red, green), blue)
    return bool(np.percentile(highest - lowest, 99) <= _GREY)


def open_image(path: Path) -> Image.Image:
    """The picture as RGB, 8 bits a channel; EXIF rotation is applied and transparency becomes white.

    Raises:
        DatasetError: if the file cannot be decoded, or its values do not tell what is white.
    """
    return on_white(_opened(path))


def open_upright(path: Path) -> Image.Image:
    """The picture in its own mode, with alpha where it has some; EXIF rotation is applied, and a channel has 8 bits.

    Raises:
        DatasetError: if the file cannot be decoded, or its values do not tell what is white.
    """
    return _opened(path)


def open_mask(path: Path, mask: Path | None, *, alpha: bool) -> Image.Image | None:
    """The mask of the picture at ``path`` in its own size, mode L; None where all of it counts.

    Where both its alpha channel is asked for and there is a picture ``mask``, they are multiplied.

    Raises:
        DatasetError: if a file cannot be decoded, or the mask is of another size than its picture.
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


def fit(
    image: Image.Image, size: Size, rng: random.Random | None = None, interpolation: str | None = None
) -> Image.Image:
    """Resize until ``size`` is covered, then crop: the centre, or the place that ``rng`` draws.

    ``interpolation`` None is Lanczos when shrinking and bicubic when growing.
    """
    covering, (left, top) = cover(image.size, size, rng)
    if covering != image.size:
        shrinks = covering[0] < image.width or covering[1] < image.height
        image = image.resize(covering, INTERPOLATIONS[interpolation or ("lanczos" if shrinks else "bicubic")])
    return image.crop((left, top, left + size[0], top + size[1]))


def cover(size: Size, least: Size, rng: random.Random | None = None) -> tuple[Size, tuple[int, int]]:
    """The size that a picture of ``size`` is brought to so that it covers ``least``, and the crop's left and top."""
    scale = max(least[0] / size[0], least[1] / size[1])
    width, height = (max(round(side * scale), needed) for side, needed in zip(size, least, strict=True))
    spare = (width - least[0], height - least[1])
    corner = (spare[0] // 2, spare[1] // 2) if rng is None else (rng.randint(0, spare[0]), rng.randint(0, spare[1]))
    return (width, height), corner


def recolored(image: Image.Image, rng: random.Random) -> Image.Image:
    """In one of three uses, ``image`` (RGB) with its hue turned or its brightness changed a little."""
    if rng.random() >= _CHANGE:
        return image
    if rng.random() < 0.5:
        return _turned(image, rng.uniform(-_HUE, _HUE))
    return ImageEnhance.Brightness(image).enhance(1 + rng.uniform(-_BRIGHTNESS, _BRIGHTNESS))


def has_alpha(image: Image.Image) -> bool:
    """Whether an image may be transparent somewhere."""
    return bool({"A", "a"} & set(image.getbands())) or "transparency" in image.info


def on_white(image: Image.Image) -> Image.Image:
    """The image as RGB, with white where it is transparent."""
    if not has_alpha(image):
        return image.convert("RGB")
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def unreadable(path: Path, error: Exception) -> str:
    """The message for a picture that cannot be decoded."""
    Image.init()
    unknown, suffix = isinstance(error, UnidentifiedImageError), path.suffix.lower()
    if unknown and suffix in IMAGE_EXTENSIONS and Image.registered_extensions().get(suffix) not in Image.OPEN:
        return f"the image {path} cannot be read: this Pillow reads no {suffix}; upgrade it, or save the image as PNG"
    reason = "it is no image that can be read" if unknown else str(error)
    return f"the image {path} cannot be read ({reason}); replace it, or take it out of the folder"


def _turned(image: Image.Image, turn: float) -> Image.Image:
    values = np.asarray(image.convert("HSV")).copy()
    values[..., 0] = (values[..., 0].astype(np.int16) + round(turn * 256)) % 256
    return Image.fromarray(values, "HSV").convert("RGB")


def _alpha(path: Path) -> Image.Image | None:
    image = _opened(path)
    return image.convert("RGBA").getchannel("A") if has_alpha(image) else None


def _opened(path: Path) -> Image.Image:
    """The picture upright, in a mode with 8 bits a channel that converts to RGB and RGBA."""
    try:
        with Image.open(path) as file:
            image = to_eight_bits(ImageOps.exif_transpose(file), getattr(file, "tag_v2", None))
            return image if image.mode in _CONVERTIBLE else image.convert("RGBA" if has_alpha(image) else "RGB")
    except _UNREADABLE as error:
        raise DatasetError(unreadable(path, error)) from error
