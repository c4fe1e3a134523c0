"""What may be worn: glasses, a hat, a bow, a scarf, cat's ears."""

from __future__ import annotations

from collections.abc import Callable

from loratools.pocket.draw.geometry import ellipse, mirror, spline, tube
from loratools.pocket.draw.palette import EAR_PINK, HAIR, LINE, ORANGE, TURQUOISE, WHITE
from loratools.pocket.draw.scene import Pen


def _glasses(pen: Pen, hair: str) -> None:
    for side in (-1, 1):
        ring = [(side * 0.45 + p[0], 0.2 + p[1]) for p in ellipse(0, 0, 0.37, 0.40).tolist()]
        pen.stroke([*ring, ring[0]], LINE, width=1.35, part="line", steps=1)
        pen.stroke([(side * 0.82, 0.14), (side * 1.0, 0.08)], LINE, width=1.35)
    pen.stroke([(-0.10, 0.16), (0, 0.12), (0.10, 0.16)], LINE, width=1.35)


def _hat(pen: Pen, hair: str) -> None:
    crown = spline(
        [(-0.80, -0.62), (-0.74, -1.1), (-0.5, -1.42), (0, -1.5), (0.5, -1.42), (0.74, -1.1), (0.80, -0.62), (0, -0.55)]
    )
    brim = spline(
        [(-1.5, -0.52), (-0.8, -0.74), (0, -0.80), (0.8, -0.74), (1.5, -0.52), (0.8, -0.42), (0, -0.47), (-0.8, -0.42)]
    )
    pen.shape(crown, color=ORANGE, part="accessory", shade=0.12)
    pen.shape(
        [(-0.83, -0.98), (0, -1.05), (0.83, -0.98), (0.84, -0.66), (0, -0.74), (-0.84, -0.66)],
        color=WHITE,
        part="accessory",
        line=0.6,
    )
    pen.shape(brim, color=ORANGE, part="accessory", shade=0.06)


def _hair_bow(pen: Pen, hair: str) -> None:
    loop = spline([(0.0, -1.14), (0.30, -1.46), (0.62, -1.42), (0.66, -1.10), (0.54, -0.84), (0.24, -0.92)])
    for contour in (loop, mirror(loop)):
        pen.shape(contour - (0.0, 0.0), color=TURQUOISE, part="accessory", shade=0.08)
    pen.shape(ellipse(0, -1.1, 0.17, 0.18), color=TURQUOISE, part="accessory")


def _scarf(pen: Pen, hair: str) -> None:
    pen.shape(tube([(0.34, 1.1), (0.44, 1.4), (0.40, 1.80)], 0.20), color=ORANGE, part="accessory", shade=0.08)
    pen.shape(tube([(0.30, 1.66), (0.54, 1.66)], 0.055), color=WHITE, part="accessory", line=0)
    wrap = spline(
        [(-0.66, 0.92), (0, 1.06), (0.66, 0.92), (0.74, 1.18), (0.45, 1.36), (0, 1.42), (-0.45, 1.36), (-0.74, 1.18)]
    )
    pen.shape(wrap, color=ORANGE, part="accessory", shade=0.08)
    pen.stroke([(-0.5, 1.14), (0, 1.25), (0.5, 1.14)], WHITE, width=1.6, part="glow")


def _cat_ears(pen: Pen, hair: str) -> None:
    ear = spline([(0.34, -0.98), (0.66, -1.34), (0.90, -1.52), (0.98, -1.2), (0.96, -0.62), (0.6, -0.7)])
    inner = spline([(0.56, -1.02), (0.72, -1.22), (0.84, -1.34), (0.86, -1.1), (0.84, -0.84)])
    for outer, pink in ((ear, inner), (mirror(ear), mirror(inner))):
        pen.shape(outer, color=HAIR[hair], part="hair")
        pen.shape(pink, color=EAR_PINK, part="accessory", line=0.4)


_DRAW: dict[str, Callable[[Pen, str], None]] = {
    "glasses": _glasses,
    "hat": _hat,
    "hair_bow": _hair_bow,
    "scarf": _scarf,
    "cat_ears": _cat_ears,
}
ON_BODY = frozenset({"scarf"})


def accessory(pen: Pen, name: str, hair_color: str) -> None:
    """Draw an accessory; ``no_accessory`` draws nothing."""
    if name in _DRAW:
        _DRAW[name](pen, hair_color)
