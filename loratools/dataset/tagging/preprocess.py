"""What each family of taggers is shown of a picture: exactly what its own reference code shows it.

All get RGB with transparency on white and EXIF applied (:func:`loratools.dataset.images.open_image`), and give
(height, width, 3) float32:

- WD: padded to a square with white, the picture in the middle; bicubic to the side; BGR, 0 to 255.
- CL: the same, then values from -1 to 1.
- DeepDanbooru (deepghs' ONNX): the longer side becomes the input's, bicubic; padded with black; RGB, 0 to 1.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from loratools.dataset.tagging.labels import Family

Pixels = npt.NDArray[np.float32]


def model_input(image: Image.Image, family: Family, side: int) -> Pixels:
    """A picture (RGB) as a tagger of ``family`` with an input of ``side`` pixels wants it: (side, side, 3)."""
    match family:
        case "wd":
            return wd_input(image, side)
        case "cl":
            return wd_input(image, side) / np.float32(127.5) - np.float32(1)
        case "deepdanbooru":
            return deepdanbooru_input(image, side)


def wd_input(image: Image.Image, side: int) -> Pixels:
    """A white square around the picture, bicubic, BGR from 0 to 255."""
    longer = max(image.size)
    square = Image.new("RGB", (longer, longer), "white")
    square.paste(image, ((longer - image.width) // 2, (longer - image.height) // 2))
    if longer != side:
        square = square.resize((side, side), Image.Resampling.BICUBIC)
    return np.ascontiguousarray(np.asarray(square, dtype=np.float32)[:, :, ::-1])


def deepdanbooru_input(image: Image.Image, side: int) -> Pixels:
    """Bicubic so that the longer side fits, black around it, RGB from 0 to 1."""
    scale = side / max(image.size)
    width, height = (max(int(length * scale), 1) for length in image.size)
    fitted = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float32) / np.float32(255)
    square = np.zeros((side, side, 3), dtype=np.float32)
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = fitted
    return square
