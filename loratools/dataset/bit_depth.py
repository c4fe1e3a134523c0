"""Images with more than 8 bits a channel, brought to 8: 16-bit and 32-bit grey, and floating point.

Pillow's own ``convert`` cuts such values at 255 instead of scaling them, which makes a 16-bit scan white and a float
TIFF black. Where a file does not say what is white, it is taken from the values, or the file is refused.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

_Values = npt.NDArray[Any]
_PHOTOMETRIC, _BITS, _SAMPLE_FORMAT = 262, 258, 339  # TIFF tags
_UNSIGNED = 1
_DARK = 16  # an image whose brightest value is below white / 16 is taken for one with another white
_HALF_STEP = 0.5 / 255


def is_wide(image: Image.Image) -> bool:
    """Whether an image is grey with more than 8 bits. (Pillow itself scales 16-bit colour to 8 bits.)"""
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def to_eight_bits(image: Image.Image, tags: Any = None) -> Image.Image:
    """An image with 8 bits a channel: L or LA for one that :func:`is_wide`, else the image itself.

    Args:
        tags: the TIFF tags of the file, where it is one (``tag_v2``).
    Raises:
        ValueError: if the values do not tell what is white.
    """
    key = image.info.get("transparency")
    if not is_wide(image):
        if isinstance(key, tuple) and max(key) > 255:  # a 16-bit colour, of pixels that Pillow brought to 8 bits
            image.info["transparency"] = tuple(value >> 8 for value in key)
        return image
    values = np.asarray(image)
    if image.mode == "I" and tags and tags.get(_BITS) == (32,) and _sample_format(tags) == _UNSIGNED:
        values = values.view(np.uint32)
    grey = np.clip(np.rint(values.astype(np.float64) * (255 / _white(image, values, tags))), 0, 255).astype(np.uint8)
    if tags and tags.get(_PHOTOMETRIC) == 0:  # white is zero; Pillow inverts 8 bits alone
        grey = 255 - grey
    result = Image.fromarray(grey)
    if isinstance(key, int):
        result.putalpha(Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8)))
    return result


def _sample_format(tags: Any) -> int:
    return int(tags.get(_SAMPLE_FORMAT, (_UNSIGNED,))[0])


def _white(image: Image.Image, values: _Values, tags: Any) -> float:
    """The value that is white; black is 0."""
    low, high = float(values.min()), float(values.max())
    white: float | None = None
    if image.mode == "F":
        if low >= -_HALF_STEP and high <= 1 + _HALF_STEP:
            white = 1
        elif low >= 0 and np.array_equal(values, np.rint(values)):
            white = _white_of_counts(high)
    elif image.mode.startswith("I;16") or not tags:  # of a PNG or PGM, whose 16 bits Pillow may keep in 32
        white = 65535
    elif low >= 0:
        white = _white_of_counts(high) or (2**32 - 1 if _sample_format(tags) == _UNSIGNED else 2**31 - 1)
    if white is None or low < -_HALF_STEP or 0 < high < white / _DARK:
        kind = {"F": "floating point", "I": "32 bits"}.get(image.mode, "16 bits")
        raise ValueError(
            f"its values go from {low:g} to {high:g} in {kind}, which does not tell what is white: "
            "save it with 8 bits a channel"
        )
    return white


def _white_of_counts(high: float) -> float | None:
    """The white of whole numbers up to ``high`` in a wider type than they need; None where they need it."""
    return next((white for white in (255, 65535) if high <= white), None)
