"""Pictures at the size of the tile that they are shown in."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image


def fit(image: Image, room: tuple[int, int]) -> Image:
    """``image`` as large as fits ``room``, (width, height) in pixels; enlarged by whole factors only."""
    from PIL.Image import Resampling

    factor = min(room[0] / image.width, room[1] / image.height)
    if factor >= 1:
        factor = int(factor)
    if factor == 1:
        return image
    size = max(1, round(image.width * factor)), max(1, round(image.height * factor))
    return image.resize(size, Resampling.NEAREST if factor > 1 else Resampling.LANCZOS)
