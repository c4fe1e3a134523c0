"""Body and clothes below the head: four garments with their own silhouettes."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from loratools.pocket.draw.faults import holes, kink, ragged
from loratools.pocket.draw.figure import Figure
from loratools.pocket.draw.geometry import Array, Points, ellipse, mirror, spline, symmetric, tube
from loratools.pocket.draw.palette import CLOTHES, ORANGE, RGB, SHOE, SKIN, SLATE, WHITE, mix, shadow
from loratools.pocket.draw.scene import Pen

_BODY: Points = [(0, 0.9), (0.22, 0.94), (0.26, 1.08), (0.60, 1.18), (0.58, 1.6), (0.4, 1.8), (0, 1.85)]
_TEE: Points = [(0, 1.12), (0.24, 1.04), (0.60, 1.14), (0.62, 1.5), (0.60, 2.1), (0.55, 2.22), (0, 2.26)]
_HOODIE: Points = [(0, 1.12), (0.30, 1.02), (0.66, 1.14), (0.78, 1.6), (0.80, 2.2), (0.62, 2.38), (0, 2.42)]
_SAILOR: Points = [(0, 1.12), (0.24, 1.04), (0.60, 1.14), (0.58, 1.5), (0.52, 2.0), (0, 2.04)]
_SKIRT: Points = [(0, 1.92), (0.50, 1.90), (0.70, 2.2), (0.94, 2.62), (0.5, 2.70), (0, 2.72)]
_DRESS: Points = [
    (0, 1.26),
    (0.34, 1.16),
    (0.50, 1.26),
    (0.48, 1.66),
    (0.74, 2.1),
    (1.04, 2.58),
    (0.85, 2.70),
    (0.4, 2.76),
    (0, 2.78),
]
NAVY: RGB = (58, 74, 150)
_HOLE_BOX = (-0.42, 1.40, 0.42, 2.15)


@dataclass(frozen=True)
class Wear:
    """What a garment is drawn with: pen, colour, and how torn it is."""

    pen: Pen
    color: RGB
    severity: float
    rng: random.Random

    def garment(self, half: Points, shade: float = 0.09) -> None:
        """A symmetric garment from its right half, torn where the fault asks."""
        contour = ragged(spline(symmetric(half), steps=7), self.severity, self.rng)
        self.pen.shape(contour, color=self.color, part="clothes", shade=shade)

    def crease(self, points: Points, width: float = 0.8) -> None:
        """A fold or seam in a darker tone of the cloth."""
        self.pen.stroke(points, mix(self.color, (20, 10, 40), 0.5), width)


def _tee(wear: Wear) -> None:
    wear.garment(_TEE)
    mark = ORANGE if wear.color == CLOTHES["white_clothes"] else WHITE
    turns = np.radians(np.arange(10) * 36 - 90)
    radius = np.where(np.arange(10) % 2, 0.12, 0.25)
    star = np.stack([np.cos(turns) * radius, np.sin(turns) * radius + 1.66], axis=1)
    wear.pen.shape(star, color=mark, part="accessory", line=0)


def _hoodie(wear: Wear) -> None:
    wear.garment(_HOODIE, 0.11)
    wear.crease([(-0.46, 2.28), (-0.34, 1.92), (0.34, 1.92), (0.46, 2.28)], 1.0)
    for side in (-1, 1):
        wear.pen.stroke([(0.17 * side, 1.26), (0.20 * side, 1.46), (0.18 * side, 1.68)], WHITE, 1.5, part="accessory")


def _hood(wear: Wear) -> None:
    hood = spline(
        [
            (-0.95, 0.86),
            (-0.5, 0.6),
            (0.5, 0.6),
            (0.95, 0.86),
            (0.86, 1.18),
            (0.4, 1.36),
            (0, 1.38),
            (-0.4, 1.36),
            (-0.86, 1.18),
        ]
    )
    wear.pen.shape(hood, color=wear.color, part="clothes")


def _hood_front(wear: Wear) -> None:
    rim = spline(
        [
            (-0.92, 0.9),
            (-0.66, 1.0),
            (0, 1.22),
            (0.66, 1.0),
            (0.92, 0.9),
            (0.82, 1.22),
            (0.4, 1.42),
            (0, 1.50),
            (-0.4, 1.42),
            (-0.82, 1.22),
        ]
    )
    wear.pen.shape(rim, color=wear.color, part="clothes", shade=0.05)


def _dress(wear: Wear) -> None:
    for side in (-1, 1):
        strap = tube([(0.34 * side, 1.26), (0.33 * side, 1.06)], 0.065)
        wear.pen.shape(strap, color=wear.color, part="clothes", line=0.7)
    wear.garment(_DRESS, 0.10)
    trim = WHITE if wear.color != CLOTHES["white_clothes"] else ORANGE
    wear.pen.shape(tube([(-0.46, 1.72), (0, 1.78), (0.46, 1.72)], 0.075), color=trim, part="accessory", line=0.6)
    for side in (-1, 1):
        wear.crease([(0.28 * side, 2.02), (0.42 * side, 2.5)])


def _sailor(wear: Wear) -> None:
    wear.garment(_SKIRT, 0.10)
    for x in (-0.45, -0.15, 0.15, 0.45):
        wear.crease([(x, 2.12), (x * 1.5, 2.6)])
    wear.garment(_SAILOR)


def _collar(wear: Wear) -> None:
    white = wear.color == CLOTHES["white_clothes"]
    cloth, trim = (NAVY, WHITE) if white else (WHITE, wear.color)
    half = [(0.16, 1.02), (0.50, 1.00), (0.80, 1.18), (0.80, 1.50), (0.48, 1.46), (0.0, 1.68), (0.0, 1.36)]
    line = [(0.68, 1.18), (0.69, 1.38), (0.44, 1.35), (0.10, 1.52)]
    for side in (-1, 1):
        wear.pen.shape(np.asarray(half) * (side, 1), color=cloth, part="clothes")
        wear.pen.stroke(np.asarray(line) * (side, 1), trim, 1.0, part="glow")
    knot = ORANGE
    bow = spline([(0.0, 1.62), (0.26, 1.50), (0.34, 1.66), (0.28, 1.84)])
    for contour in (bow, mirror(bow)):
        wear.pen.shape(contour, color=knot, part="accessory", line=0.8)
    wear.pen.shape(ellipse(0, 1.66, 0.09, 0.1), color=knot, part="accessory", line=0.8)


_GARMENTS: dict[str, Callable[[Wear], None]] = {
    "t-shirt": _tee,
    "dress": _dress,
    "hoodie": _hoodie,
    "sailor_collar": _sailor,
}
_BEHIND: dict[str, Callable[[Wear], None]] = {"hoodie": _hood}
_OVER: dict[str, Callable[[Wear], None]] = {"sailor_collar": _collar, "hoodie": _hood_front}


def wear(pen: Pen, figure: Figure, severity: float, seed: int) -> Wear:
    """The wearing of a figure's clothes."""
    return Wear(pen, CLOTHES[figure.clothes_color], severity, random.Random(f"clothes {seed}"))


def behind(pen: Pen, figure: Figure, worn: Wear) -> None:
    """What lies behind neck and arms, then the neck and shoulders themselves."""
    if figure.clothes in _BEHIND:
        _BEHIND[figure.clothes](worn)
    skin = SKIN[figure.skin]
    pen.shape(spline(symmetric(_BODY)), color=skin, part="skin")
    pen.shape(spline([(-0.24, 0.9), (0.24, 0.9), (0.2, 1.06), (-0.2, 1.06)]), color=shadow(skin), part="skin", line=0)


def _leg_line(side: int, severity: float, rng: random.Random) -> Array:
    line = np.array([(0.29, 2.1), (0.31, 2.66), (0.32, 3.16)])
    return kink(line, severity * 0.8, rng, grows=side < 0) * (side, 1)


def legs(pen: Pen, figure: Figure, severity: float, seed: int) -> None:
    """Legs, with trousers, shorts or socks, and shoes."""
    rng = random.Random(f"legs {seed}")
    skin = SKIN[figure.skin]
    for side in (-1, 1):
        line = _leg_line(side, severity, rng)
        smooth = spline(line, closed=False, steps=5)
        thick = 1 + 0.12 * severity * side
        pen.shape(tube(smooth, 0.18 * thick, 1), color=skin, part="skin", shade=0.06)
        if figure.clothes == "hoodie":
            pen.shape(tube(smooth, 0.225 * thick, 1, flat=True), color=SLATE, part="accessory", shade=0.06)
        elif figure.clothes == "t-shirt":
            pen.shape(tube(smooth[:6], 0.26 * thick, 1, flat=True), color=SLATE, part="accessory", shade=0.06)
        else:
            pen.shape(tube(smooth[7:], 0.20, 1), color=WHITE, part="accessory")
        x, y = line[-1]
        shoe = [(-0.22, -0.06), (-0.1, -0.14), (0.12, -0.13), (0.30, 0.02), (0.32, 0.19), (0, 0.22), (-0.22, 0.19)]
        pen.shape(spline(np.asarray(shoe) * (side, 1) + (x, y + 0.1)), color=SHOE, part="accessory")


def garment(figure: Figure, worn: Wear) -> None:
    """The garment on the torso."""
    _GARMENTS[figure.clothes](worn)


def tears(figure: Figure, worn: Wear) -> None:
    """The holes and patches of torn clothes."""
    if worn.severity > 0:
        patch = ORANGE if figure.clothes_color != "yellow_clothes" else NAVY
        holes(worn.pen, _HOLE_BOX, worn.severity, (SKIN[figure.skin], patch), f"holes {worn.rng.random()}")


def over(figure: Figure, worn: Wear) -> None:
    """What lies over the shoulders: a collar or the hood's rim."""
    if figure.clothes in _OVER:
        _OVER[figure.clothes](worn)
