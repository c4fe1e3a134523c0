"""Pictures that differ from use to use: a random place of the crop, and a shift of colour."""

from __future__ import annotations

import random

import numpy as np
from PIL import Image, ImageEnhance

_CHANCE = 1 / 3  # of a change of colour, as in sd-scripts
_HUE = 16 / 360  # of the circle, either way: sd-scripts' 8 of OpenCV's 180
_BRIGHTNESS = 0.25  # either way: what sd-scripts' exponent on 0..255 comes to


def recolored(image: Image.Image, rng: random.Random) -> Image.Image:
    """In one of three uses, ``image`` (RGB) with its hue turned or its brightness changed a little."""
    if rng.random() >= _CHANCE:
        return image
    if rng.random() < 0.5:
        return _turned(image, rng.uniform(-_HUE, _HUE))
    return ImageEnhance.Brightness(image).enhance(1 + rng.uniform(-_BRIGHTNESS, _BRIGHTNESS))


def _turned(image: Image.Image, turn: float) -> Image.Image:
    values = np.asarray(image.convert("HSV")).copy()
    values[..., 0] = (values[..., 0].astype(np.int16) + round(turn * 256)) % 256
    return Image.fromarray(values, "HSV").convert("RGB")
