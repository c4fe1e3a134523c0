"""The facts of one picture, from one reading of its file."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from loratools.dataset.folder import Size
from loratools.dataset.images import has_alpha, has_no_color, on_white, open_upright, read_header, unreadable
from loratools.errors import DatasetError
from loratools.files import sha256

Print = npt.NDArray[np.uint8]
PRINT_SIDE = 48  # of a print, in pixels
_FINE = 96  # a print is averaged from this, so that how a copy was resized does not show
_LARGE = 16_000_000  # pixels from which on a picture is read while no other large one is
_FEW = 0.002  # share of transparent pixels below which alpha does not count
_one_large = threading.Lock()


@dataclass(frozen=True)
class PictureFacts:
    """One picture.

    Attributes:
        size: (width, height) as it is seen, after EXIF rotation.
        kind: the file's format in Pillow's words, such as ``JPEG``.
        digest: sha256 of the file.
        transparent: whether some of it really is transparent.
        animated: whether it moves, or has several pages; the first is used.
        grey: whether it has no colour.
        quality: of a JPEG, 1 to 100, estimated by its table; None for other kinds.
        flat_border: whether nearly all of its border is one colour.
        small_print: (48, 48, 3) values of 0 to 255: the picture squeezed to a square.
    """

    size: Size
    kind: str
    digest: str
    transparent: bool
    animated: bool
    grey: bool
    quality: int | None
    flat_border: bool
    small_print: Print

    @property
    def ratio(self) -> float:
        """Width by height."""
        return self.size[0] / self.size[1]

    @property
    def pixels(self) -> int:
        """Width times height."""
        return self.size[0] * self.size[1]


def picture_facts(path: Path) -> PictureFacts:
    """Read a picture.

    Raises:
        DatasetError: if it cannot be read, with the reason.
    """
    header = read_header(path)
    if header.size[0] * header.size[1] < _LARGE:
        return _facts(path, header.animated)
    with _one_large:
        return _facts(path, header.animated)


def _facts(path: Path, animated: bool) -> PictureFacts:
    try:
        digest = sha256(path)
        with Image.open(path) as file:
            kind, quality = file.format or "", _quality(getattr(file, "quantization", None))
        image = open_upright(path)
        transparent = has_alpha(image) and _is_transparent(image)
        size, colour = image.size, on_white(image)
        grey = has_no_color(colour)
        return PictureFacts(
            size, kind, digest, transparent, animated, grey, quality, _flat_border(colour), print_of(colour)
        )
    except (OSError, MemoryError) as error:
        raise DatasetError(unreadable(path, error)) from error


def print_of(image: Image.Image) -> Print:
    """The print of an RGB image."""
    # a triangle filter: Pillow's box filter takes whole pixels, and so depends on the size that a copy was saved at
    fine = image.resize((_FINE, _FINE), Image.Resampling.BILINEAR)
    values = np.asarray(fine, dtype=np.float32)
    parts = _FINE // PRINT_SIDE
    small = values.reshape(PRINT_SIDE, parts, PRINT_SIDE, parts, 3).mean(axis=(1, 3))
    print_: Print = np.rint(small).astype(np.uint8)
    return print_


def _is_transparent(image: Image.Image) -> bool:
    alpha = np.asarray(image.convert("RGBA").getchannel("A"))
    return bool((alpha < 250).mean() > _FEW)


def _flat_border(image: Image.Image) -> bool:
    """Whether at least nine in ten pixels of the border of an RGB image are of its most frequent colour, nearly."""
    small = np.asarray(image.resize((64, 64), Image.Resampling.BOX), dtype=np.int16)
    border = np.concatenate([small[:3].reshape(-1, 3), small[-3:].reshape(-1, 3), small[:, :3].reshape(-1, 3)])
    border = np.concatenate([border, small[:, -3:].reshape(-1, 3)])
    middle = np.median(border, axis=0)
    return bool((np.abs(border - middle).max(axis=1) <= 12).mean() >= 0.9)


def _quality(tables: Any) -> int | None:
    """The quality, in libjpeg's scale, whose first table is nearest to a JPEG's own."""
    if not tables or 0 not in tables:
        return None
    mean: float = sum(tables[0]) / len(tables[0])
    scale = mean / _MEAN_AT_50
    quality = 50 / scale if scale > 1 else 100 - 50 * scale
    return max(1, min(100, round(quality)))


_MEAN_AT_50 = 57.625  # of the luminance table that libjpeg has at quality 50
