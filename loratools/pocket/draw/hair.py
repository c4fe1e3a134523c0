"""Hair: what hangs behind the figure, and the cap with its fringe in front of the face."""

from __future__ import annotations

import math
import random

import numpy as np

from loratools.pocket.draw.geometry import Array, Points, mirror, spline, symmetric
from loratools.pocket.draw.palette import HAIR, RGB, light, mix, shadow
from loratools.pocket.draw.scene import Pen, joined

# Fringes from the right temple to the left: pairs of a strand's root and tip, in units.
FRINGES: dict[str, Points] = {
    "short_hair": [
        (0.84, 0.10),
        (0.62, -0.30),
        (0.40, -0.06),
        (0.20, -0.34),
        (-0.06, -0.06),
        (-0.30, -0.36),
        (-0.55, -0.06),
        (-0.72, -0.28),
        (-0.84, 0.10),
    ],
    "long_hair": [
        (0.86, 0.16),
        (0.70, -0.10),
        (0.34, -0.52),
        (0.02, -0.74),
        (-0.06, -0.62),
        (-0.38, -0.46),
        (-0.72, -0.08),
        (-0.86, 0.16),
    ],
    "twintails": [
        (0.82, 0.0),
        (0.58, -0.12),
        (0.50, -0.26),
        (0.24, -0.10),
        (0.17, -0.28),
        (-0.14, -0.10),
        (-0.20, -0.28),
        (-0.48, -0.10),
        (-0.56, -0.26),
        (-0.82, 0.0),
    ],
    "ponytail": [
        (0.84, -0.02),
        (0.72, -0.30),
        (0.40, -0.58),
        (0.10, -0.36),
        (-0.30, -0.16),
        (-0.66, 0.0),
        (-0.80, 0.12),
        (-0.87, 0.14),
    ],
    "spiky_hair": [
        (0.84, -0.05),
        (0.66, -0.44),
        (0.44, -0.12),
        (0.28, -0.46),
        (0.02, -0.14),
        (-0.20, -0.48),
        (-0.40, -0.12),
        (-0.62, -0.46),
        (-0.84, -0.05),
    ],
}
_LOCKS: dict[str, float] = {
    "short_hair": 0.66,
    "long_hair": 0.98,
    "twintails": 0.55,
    "ponytail": 0.38,
    "spiky_hair": 0.14,
}
_CROWN: Points = [(-1.09, 0.05), (-1.02, -0.45), (-0.72, -0.95), (0, -1.2), (0.72, -0.95), (1.02, -0.45), (1.09, 0.05)]


def _spikes() -> Array:
    """A crown of spikes from the left ear over the top to the right ear."""
    turns = np.radians(np.linspace(188, -8, 15))
    radius = np.where(np.arange(15) % 2, 1.50, 1.04)
    radius[[0, -1]] = 1.04
    return np.stack([np.cos(turns) * radius, -np.sin(turns) * radius * 0.97 + 0.02], axis=1)


def cap(style: str, rng: random.Random) -> Array:
    """The closed contour of the hair in front: crown, side locks and fringe, in units."""
    crown = _spikes() if style == "spiky_hair" else spline(_CROWN, closed=False)
    fringe = np.asarray(FRINGES[style], dtype=np.float64)
    fringe[1:-1] += np.array([(rng.uniform(-0.03, 0.03), rng.uniform(-0.03, 0.03)) for _ in fringe[1:-1]])
    tip = _LOCKS[style]
    right = spline([(1.09, 0.1), (1.06, tip * 0.6), (0.93, tip)], closed=False, steps=4)
    inner = spline([(0.93, tip), (0.84, tip * 0.5), tuple(fringe[0])], closed=False, steps=4)
    left = mirror(inner)[::-1] if style != "ponytail" else np.array([tuple(fringe[-1]), (-0.93, tip)])
    return joined([crown, right, inner, _curved(fringe), left, mirror(right)[::-1]])


def _curved(fringe: Array) -> Array:
    """Strands with slightly bowed sides between the fringe's roots and tips."""
    middle = (fringe[:-1] + fringe[1:]) / 2
    middle[:, 0] *= 1.06
    out = np.empty((len(fringe) * 2 - 1, 2))
    out[::2], out[1::2] = fringe, middle
    return out


_BACK: dict[str, Points] = {
    "short_hair": [(0, -1.15), (0.8, -0.85), (1.12, -0.2), (1.2, 0.4), (1.12, 0.86), (0.8, 0.98), (0, 0.9)],
    "long_hair": [
        (0, -1.15),
        (0.8, -0.85),
        (1.12, -0.1),
        (1.24, 0.7),
        (1.34, 1.5),
        (1.28, 2.05),
        (0.9, 2.16),
        (0.5, 2.0),
        (0, 2.1),
    ],
}
_TAIL: Points = [
    (0.86, -0.72),
    (1.25, -0.82),
    (1.62, -0.35),
    (1.72, 0.4),
    (1.52, 1.15),
    (1.30, 1.42),
    (1.26, 1.0),
    (1.12, 0.5),
    (1.0, -0.1),
]
_PONY: Points = [
    (0.35, -1.05),
    (0.72, -1.40),
    (1.24, -1.20),
    (1.58, -0.5),
    (1.62, 0.3),
    (1.48, 1.0),
    (1.18, 1.38),
    (1.16, 0.9),
    (1.06, 0.2),
    (0.98, -0.4),
]


def back(pen: Pen, style: str, color: str) -> None:
    """What hangs behind head and body."""
    rgb = HAIR[color]
    if style in _BACK:
        pen.shape(spline(symmetric(_BACK[style])), color=mix(rgb, shadow(rgb), 0.75), part="hair")
    if style == "twintails":
        tail = spline(_TAIL)
        for contour in (tail, mirror(tail)):
            pen.shape(contour, color=rgb, part="hair", shade=0.10)
        for side in (-1, 1):
            _strand(pen, [(1.2 * side, -0.45), (1.42 * side, 0.2), (1.38 * side, 0.9)], rgb)
    if style == "ponytail":
        pen.shape(spline(_PONY), color=rgb, part="hair", shade=0.10)
        _strand(pen, [(1.0, -0.85), (1.34, -0.1), (1.34, 0.8)], rgb)


def _strand(pen: Pen, points: Points, rgb: RGB) -> None:
    pen.stroke(points, mix(rgb, (30, 16, 50), 0.42), width=0.8)


def front(pen: Pen, contour: Array, style: str, color: str) -> None:
    """The cap, with a highlight across the crown, and the ties of tails."""
    rgb = HAIR[color]
    pen.shape(contour, color=rgb, part="hair", shade=0.09)
    shine = light(rgb) if color != "black_hair" else (120, 120, 150)
    if color == "white_hair":
        shine = (204, 210, 232)
    for start, end in ((-58, -14), (-4, 12)):
        arc = [
            (math.sin(math.radians(a)) * 0.86, -math.cos(math.radians(a)) * 0.90 - 0.02)
            for a in np.linspace(start, end, 4)
        ]
        pen.stroke(arc, shine, width=1.7, part="glow")
    if style == "twintails":
        for side in (-1, 1):
            pen.shape(
                spline([(0.90 * side, -0.92), (1.14 * side, -0.80), (1.06 * side, -0.50), (0.86 * side, -0.60)]),
                color=(250, 250, 250),
                part="accessory",
            )
    if style == "ponytail":
        pen.shape(
            spline([(0.42, -1.22), (0.66, -1.32), (0.80, -1.02), (0.60, -0.88)]),
            color=(250, 250, 250),
            part="accessory",
        )
