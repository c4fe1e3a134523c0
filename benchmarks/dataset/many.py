"""Thousands of different pictures from a few drawings, to measure time and memory."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
from PIL import Image

from loratools.pocket.draw import STYLES, draw, random_figure

_DRAWINGS = 100


def many_pictures(folder: Path, count: int, size: int = 512) -> None:
    """Write ``count`` pictures, half PNG and half JPEG, with captions: drawings shifted and recoloured."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(0)
    figures = [random_figure(rng, style=rng.choice(list(STYLES))) for _ in range(_DRAWINGS)]
    drawings = [np.asarray(draw(figure, number, size).image) for number, figure in enumerate(figures)]
    for number in range(count):
        which = number % _DRAWINGS
        values = np.roll(drawings[which], (rng.randrange(size), rng.randrange(size)), axis=(0, 1))
        image = Image.fromarray(values[:, :, rng.sample((0, 1, 2), 3)])
        if number % 2:
            image.save(folder / f"{number:05d}.jpg", quality=90)
        else:
            image.save(folder / f"{number:05d}.png", compress_level=1)
        (folder / f"{number:05d}.txt").write_text(", ".join(figures[which].tags()), encoding="utf-8")
