"""The head without its hair: face, big eyes with highlights, brows, mouth and blush."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from loratools.pocket.draw.faults import FaceWarp
from loratools.pocket.draw.geometry import Array, ellipse, rotate, spline, symmetric
from loratools.pocket.draw.palette import EYES, LINE, MOUTH, RGB, SKIN, TONGUE, WHITE, mix, shadow
from loratools.pocket.draw.scene import Pen

HEAD = spline(symmetric([(0, -0.98), (0.6, -0.82), (0.95, -0.25), (0.97, 0.22), (0.78, 0.64), (0.36, 0.92), (0, 0.98)]))
EYE_X, EYE_Y = 0.44, 0.20


@dataclass(frozen=True, slots=True)
class Expression:
    """What an expression does: brow heights (outer, inner end) in units, the iris's size, and which eye is shut."""

    brows: tuple[float, float]
    iris: float = 1.0
    shut: int = -1


FACE_EXPRESSIONS: dict[str, Expression] = {
    "smile": Expression((-0.34, -0.40)),
    "open_mouth": Expression((-0.38, -0.46)),
    "frown": Expression((-0.44, -0.20)),
    "surprised": Expression((-0.50, -0.60), iris=0.74),
    "wink": Expression((-0.34, -0.40), shut=1),
}


def head(pen: Pen, skin: str) -> None:
    """The ears and the face."""
    color = SKIN[skin]
    for side in (-1, 1):
        pen.shape(ellipse(side * 0.97, 0.22, 0.15, 0.19), color=color, part="skin")
    pen.shape(HEAD, color=color, part="skin", shade=0.07)


def blush(pen: Pen, skin: str) -> None:
    """Rosy cheeks."""
    color = mix(SKIN[skin], (255, 70, 90), 0.38)
    for side in (-1, 1):
        pen.shape(ellipse(side * 0.66, 0.56, 0.17, 0.095), color=color, part="blush", line=0)


def _open_eye(pen: Pen, x: float, y: float, color: RGB, scale: float, iris: float, side: int) -> None:
    def at(dx: float, dy: float, rx: float, ry: float) -> Array:
        return ellipse(x + dx * scale, y + dy * scale, rx * scale, ry * scale)

    pen.shape(at(0, 0, 0.235, 0.315), color=WHITE, part="eye", line=0.75)
    k = iris
    pen.shape(at(-0.01 * side, 0.02, 0.185 * k, 0.265 * k), color=color, part="eye", line=0)
    pen.shape(at(-0.01 * side, -0.07 * k, 0.165 * k, 0.16 * k), color=mix(color, (20, 10, 40), 0.4), part="eye", line=0)
    pen.shape(at(-0.01 * side, 0.0, 0.085 * k, 0.13 * k), color=LINE, part="eye", line=0)
    pen.shape(at(-0.075, -0.13, 0.085, 0.10), color=WHITE, part="eye", line=0)
    pen.shape(at(0.075, 0.15 * k, 0.05, 0.055), color=WHITE, part="eye", line=0)
    lash = [
        (-0.26 * side, -0.10),
        (-0.17 * side, -0.27),
        (0.04 * side, -0.345),
        (0.22 * side, -0.22),
        (0.32 * side, -0.09),
    ]
    pen.stroke([(x + dx * scale, y + dy * scale) for dx, dy in lash], width=1.7)


def eyes(pen: Pen, eye_color: str, expression: str, warp: FaceWarp) -> None:
    """Both eyes and brows (the brows lie over the fringe, so that the expression always reads)."""
    face = FACE_EXPRESSIONS[expression]
    for index, side in enumerate((-1, 1)):
        x, y = side * EYE_X + warp.eyes[index][0], EYE_Y + warp.eyes[index][1]
        if face.shut == index:
            pen.stroke(
                [(x - 0.25, y + 0.10), (x - 0.1, y - 0.07), (x + 0.1, y - 0.07), (x + 0.25, y + 0.10)], width=1.9
            )
        else:
            _open_eye(pen, x, y, EYES[eye_color], warp.scales[index], face.iris, side)


def brows(pen: Pen, expression: str, warp: FaceWarp) -> None:
    """Brows; see :class:`Expression`."""
    outer, inner = FACE_EXPRESSIONS[expression].brows
    for index, side in enumerate((-1, 1)):
        dx, dy = warp.eyes[index]
        middle = (outer + inner) / 2 - 0.03
        line = [(side * 0.66 + dx, outer + dy), (side * 0.45 + dx, middle + dy), (side * 0.24 + dx, inner + dy)]
        pen.stroke(line, width=1.35)


def _smile(pen: Pen, put: Callable[[Array], Array]) -> None:
    pen.stroke(
        put(spline([(-0.24, 0.60), (-0.13, 0.70), (0, 0.73), (0.13, 0.70), (0.24, 0.60)], closed=False)), width=1.5
    )


def _frown(pen: Pen, put: Callable[[Array], Array]) -> None:
    pen.stroke(
        put(spline([(-0.20, 0.77), (-0.11, 0.66), (0, 0.63), (0.11, 0.66), (0.20, 0.77)], closed=False)), width=1.6
    )


def _open(pen: Pen, put: Callable[[Array], Array]) -> None:
    mouth = spline([(-0.26, 0.55), (0, 0.575), (0.26, 0.55), (0.20, 0.75), (0, 0.86), (-0.20, 0.75)])
    pen.shape(put(mouth), color=MOUTH, part="eye", line=0.8)
    pen.shape(put(ellipse(0, 0.77, 0.13, 0.07)), color=TONGUE, part="glow", line=0)


def _surprised(pen: Pen, put: Callable[[Array], Array]) -> None:
    pen.shape(put(ellipse(0, 0.69, 0.105, 0.14)), color=MOUTH, part="eye", line=0.8)


def _cheeky(pen: Pen, put: Callable[[Array], Array]) -> None:
    pen.shape(
        put(spline([(0.0, 0.68), (0.19, 0.66), (0.20, 0.82), (0.10, 0.88), (0.02, 0.80)])),
        color=TONGUE,
        part="eye",
        line=0.7,
    )
    _smile(pen, put)


MOUTHS: dict[str, Callable[[Pen, Callable[[Array], Array]], None]] = {
    "smile": _smile,
    "open_mouth": _open,
    "frown": _frown,
    "surprised": _surprised,
    "wink": _cheeky,
}


def mouth(pen: Pen, expression: str, warp: FaceWarp) -> None:
    """The mouth of an expression, moved and turned by ``warp``."""

    def put(points: Array) -> Array:
        return rotate(points, warp.turn, (0.0, 0.68)) + warp.mouth if warp.turn else points

    MOUTHS[expression](pen, put)


def fringe_shadow(pen: Pen, contour: Array, skin: str) -> None:
    """The shadow that the fringe throws on the forehead: the fringe itself, a little lower."""
    pen.shape(contour * 0.97 + (0, 0.09), color=shadow(SKIN[skin]), part="skin", line=0)
