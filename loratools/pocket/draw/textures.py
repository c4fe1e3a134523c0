"""Textures for the styles: hatching, smooth noise, warps; all seeded, as numpy arrays or masks."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Floats = NDArray[np.float32]
Generator = np.random.Generator


def hatching(side: int, angle: float, gap: float, width: float, noise: Generator) -> Image.Image:
    """Parallel pen strokes as a mask (L, 255 on a stroke), ``gap`` px apart, a little uneven."""
    mask = Image.new("L", (side, side), 0)
    draw = ImageDraw.Draw(mask)
    along = (math.cos(math.radians(angle)), math.sin(math.radians(angle)))
    count = int(side * 1.5 / gap)
    wobble = noise.uniform(-0.16, 0.16, (2 * count + 1, 2)) * gap
    widths = noise.uniform(0.75, 1.25, 2 * count + 1) * width
    for index in range(-count, count + 1):
        a, b = wobble[index]
        x, y = side / 2 - along[1] * (index * gap), side / 2 + along[0] * (index * gap)
        start = (x - along[0] * side - along[1] * a, y - along[1] * side + along[0] * a)
        end = (x + along[0] * side - along[1] * b, y + along[1] * side + along[0] * b)
        draw.line([start, end], fill=255, width=max(1, round(float(widths[index]))))
    return mask


def smooth_noise(side: int, cells: int, noise: Generator) -> Floats:
    """Smooth noise (side, side), about -1..1, with ``cells`` bumps a side."""
    grid = noise.uniform(-1, 1, (cells + 3, cells + 3)).astype(np.float32)
    image = Image.fromarray(grid, mode="F").resize((side, side), Image.Resampling.BICUBIC)
    return np.asarray(image, dtype=np.float32)


def warp(pixels: Floats, reach: float, cells: int, noise: Generator) -> Floats:
    """Move pixels (h, w, c) by up to ``reach`` px along smooth noise."""
    side = pixels.shape[0]
    rows, columns = np.indices((side, side))
    rows = np.clip(rows + smooth_noise(side, cells, noise) * reach, 0, side - 1).astype(np.intp)
    columns = np.clip(columns + smooth_noise(side, cells, noise) * reach, 0, side - 1).astype(np.intp)
    moved: Floats = pixels[rows, columns]
    return moved


def floats(image: Image.Image) -> Floats:
    """An image's pixels (h, w, c) as float32 in 0..255."""
    return np.asarray(image, dtype=np.float32)


def picture(pixels: Floats) -> Image.Image:
    """An RGB image from floats (h, w, 3), clipped to 0..255."""
    return Image.fromarray(np.clip(pixels + 0.5, 0, 255).astype(np.uint8))
