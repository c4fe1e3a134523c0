"""Backgrounds: flat, simple, and unlike each other in colour and shape."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np

from loratools.pocket.draw.geometry import Array, Points, ellipse, spline
from loratools.pocket.draw.palette import RGB, WHITE
from loratools.pocket.draw.scene import FRAME, PICTURE, Pen, Scene

_EDGE = 8.0  # shapes reach this far outside the picture, so that their outlines do not show


def _band(pen: Pen, top: float, bottom: float, color: RGB) -> None:
    box = [(-_EDGE, top), (FRAME + _EDGE, top), (FRAME + _EDGE, bottom), (-_EDGE, bottom)]
    pen.shape(box, color=color, part="background", line=0)


def _land(pen: Pen, heights: Points, color: RGB) -> None:
    """Ground below a smooth skyline."""
    top = spline(heights, closed=False)
    box = np.array([(FRAME + _EDGE, FRAME + _EDGE), (-_EDGE, FRAME + _EDGE)])
    pen.shape(np.concatenate([top, box]), color=color, part="background", line=0)


def _disc(pen: Pen, x: float, y: float, r: float, color: RGB) -> None:
    pen.shape(ellipse(x, y, r, r), color=color, part="background", line=0)


def _simple(pen: Pen, rng: random.Random) -> None:
    _band(pen, -_EDGE, FRAME + _EDGE, (250, 240, 222))


def _cloud(x: float, y: float, k: float) -> tuple[Array, ...]:
    return (
        ellipse(x, y, 11 * k, 4.5 * k),
        ellipse(x - 3 * k, y - 3.5 * k, 5.5 * k, 5 * k),
        ellipse(x + 4 * k, y - 2.5 * k, 5 * k, 4 * k),
    )


def _grass(pen: Pen, rng: random.Random) -> None:
    _band(pen, -_EDGE, FRAME + _EDGE, (160, 220, 252))
    _disc(pen, 16 + rng.uniform(-3, 3), 16, 9, (255, 232, 110))
    for x, y in ((46.0, 12.0), (108.0, 20.0), (8.0, 46.0)):
        pen.shape(*_cloud(x + rng.uniform(-5, 5), y + rng.uniform(-2, 2), 1.0), color=WHITE, part="background", line=0)
    y = 78 + rng.uniform(-3, 3)
    _land(pen, [(-8, y + 8), (24, y - 4), (60, y + 8), (96, y - 6), (136, y + 6)], (132, 204, 110))
    _land(pen, [(-8, y + 14), (40, y + 22), (90, y + 14), (136, y + 22)], (104, 184, 84))
    for index in range(7):
        x, low = 6 + index * 19 + rng.uniform(-4, 4), y + 30 + rng.uniform(-3, 14)
        color: RGB = ((255, 250, 250), (255, 214, 90), (255, 170, 190))[index % 3]
        _disc(pen, x, low, 2.4, color)


def _stars(pen: Pen, rng: random.Random) -> None:
    _band(pen, -_EDGE, FRAME + _EDGE, (44, 50, 128))
    _land(pen, [(-8, 100), (30, 92), (70, 102), (110, 90), (136, 96)], (34, 36, 96))
    _disc(pen, 17, 20, 11, (255, 244, 190))
    _disc(pen, 22, 17, 9.5, (44, 50, 128))
    for x, y in (
        (40, 9),
        (60, 16),
        (84, 8),
        (104, 24),
        (119, 10),
        (10, 52),
        (118, 50),
        (28, 70),
        (104, 76),
        (8, 84),
        (121, 86),
    ):
        _star(pen, x + rng.uniform(-3, 3), y + rng.uniform(-3, 3), rng.uniform(2.8, 4.4))


def _star(pen: Pen, x: float, y: float, r: float) -> None:
    turns = np.radians(np.arange(8) * 45)
    radius = np.where(np.arange(8) % 2, 0.34, 1.0) * r
    star = np.stack([np.cos(turns) * radius + x, np.sin(turns) * radius + y], axis=1)
    pen.shape(star, color=(255, 246, 200), part="background", line=0)


def _sunset(pen: Pen, rng: random.Random) -> None:
    colors: tuple[RGB, ...] = ((238, 108, 120), (248, 140, 108), (254, 172, 104), (255, 204, 120))
    for index, color in enumerate(colors):
        _band(pen, index * 24.0 - (_EDGE if not index else 0), FRAME + _EDGE, color)
    _disc(pen, 104 + rng.uniform(-3, 3), 74, 17, (255, 240, 170))
    _band(pen, 88, FRAME + _EDGE, (130, 84, 150))
    for index, (x, y) in enumerate(((104, 94), (100, 102), (106, 110), (20, 98), (28, 112))):
        wide = 12 if index < 3 else 7
        glint = [(x - wide, y - 1.2), (x + wide, y - 1.2), (x + wide, y + 1.2), (x - wide, y + 1.2)]
        pen.shape(glint, color=(250, 180, 140), part="background", line=0)


def _indoors(pen: Pen, rng: random.Random) -> None:
    _band(pen, -_EDGE, FRAME + _EDGE, (222, 200, 176))
    _band(pen, 104, FRAME + _EDGE, (176, 124, 84))
    _band(pen, 101, 105, (246, 236, 222))
    x = 6 + rng.uniform(-2, 2)
    _box(pen, x, 8, x + 36, 56, (250, 246, 236))
    for left, top in ((x + 4, 12), (x + 20, 12), (x + 4, 34), (x + 20, 34)):
        _box(pen, left, top, left + 12, top + 18, (150, 214, 246))
    px = 112 + rng.uniform(-2, 2)
    for turn in (-34, 0, 34):
        tip = (px + turn * 0.5, 58 + abs(turn) * 0.25)
        leaf = spline([(px, 90), (px + turn * 0.1 - 6, 74), tip, (px + turn * 0.4 + 6, 76)])
        pen.shape(leaf, color=(78, 150, 88), part="background", line=0)
    pen.shape(
        [(px - 10, 88), (px + 10, 88), (px + 7, 106), (px - 7, 106)], color=(206, 104, 70), part="background", line=0
    )


def _box(pen: Pen, left: float, top: float, right: float, bottom: float, color: RGB) -> None:
    pen.shape([(left, top), (right, top), (right, bottom), (left, bottom)], color=color, part="background", line=0)


_DRAW: dict[str, Callable[[Pen, random.Random], None]] = {
    "simple_background": _simple,
    "grass": _grass,
    "starry_sky": _stars,
    "sunset": _sunset,
    "indoors": _indoors,
}


def background(scene: Scene, name: str, rng: random.Random) -> None:
    """Fill the picture behind the figure."""
    _DRAW[name](Pen(scene, PICTURE, 1.0), rng)
