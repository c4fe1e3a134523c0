"""Where everything goes: the framings' cameras, the poses' arms, and the hands at their ends."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

import numpy as np

from loratools.pocket.draw import hands
from loratools.pocket.draw.faults import kink
from loratools.pocket.draw.figure import Figure
from loratools.pocket.draw.geometry import Array, bounds, mirror, spline, tube
from loratools.pocket.draw.palette import CLOTHES, RGB, SKIN
from loratools.pocket.draw.scene import FRAME, Camera, Pen

SIDES: dict[str, int] = {"left_hand": -1, "right_hand": 1}  # the viewer's left and right


@dataclass(frozen=True, slots=True)
class Framing:
    """A camera's scale and height, the outline and the hand's height, all in pixels of a 128 px picture."""

    unit: float
    y: float
    line: float
    hand: float


FRAMINGS: dict[str, Framing] = {
    "face_focus": Framing(unit=40.0, y=59.0, line=2.1, hand=31.0),
    "cowboy_shot": Framing(unit=30.0, y=46.0, line=1.75, hand=29.0),
    "full_body": Framing(unit=25.0, y=39.5, line=1.4, hand=17.0),
}


@dataclass(frozen=True, slots=True)
class Reach:
    """The viewer's right arm from shoulder over elbow to wrist in units, and the hand's turn (degrees from up)."""

    points: tuple[tuple[float, float], ...]
    angle: float
    thumb_out: bool = False
    hand: bool = True  # whether the hand is in the picture


_SHOULDER = (0.52, 1.30)
_DOWN = Reach((_SHOULDER, (0.80, 1.52), (1.02, 1.76)), 153.0, thumb_out=True)
_WAVE = Reach((_SHOULDER, (1.08, 1.58), (1.33, 1.14)), 7.0)
_UP = Reach((_SHOULDER, (1.20, 1.02), (1.36, 0.22)), 7.0)
_SPREAD = Reach((_SHOULDER, (0.86, 1.62), (1.14, 1.50)), 52.0)
# each pose: (viewer's left arm, viewer's right arm) and their hands
_POSES: dict[str, tuple[Reach, Reach]] = {
    "arms_at_sides": (_DOWN, _DOWN),
    "waving": (_DOWN, _WAVE),
    "arms_up": (_UP, _UP),
    "peace_sign": (_WAVE, _DOWN),
    "spread_arms": (_SPREAD, _SPREAD),
}
_CLOSE_WAVE = Reach(((0.62, 1.34), (1.22, 1.95), (1.20, 1.46)), 5.0)
_CLOSE_UP = Reach(((0.62, 1.34), (1.30, 1.75), (1.21, 1.02)), 5.0)
_CLOSE_REST = Reach(((0.56, 1.34), (0.80, 1.75), (0.84, 2.20)), 170.0, hand=False)
_CLOSE: dict[str, tuple[Reach, Reach]] = {
    "waving": (_CLOSE_REST, _CLOSE_WAVE),
    "arms_up": (_CLOSE_UP, _CLOSE_UP),
    "peace_sign": (_CLOSE_WAVE, _CLOSE_REST),
}


def reaches(figure: Figure) -> tuple[Reach, Reach]:
    """The viewer's left and right arms in this framing and pose."""
    if figure.framing == "face_focus":
        return _CLOSE.get(figure.pose, (_CLOSE_REST, _CLOSE_REST))
    return _POSES[figure.pose]


def expected_hands(figure: Figure) -> tuple[str, ...]:
    """The hands (``left_hand``, ``right_hand``: the viewer's) that show at 20 px or more in a 128 px picture."""
    if FRAMINGS[figure.framing].hand < 20:
        return ()
    return tuple(name for name, reach in zip(SIDES, reaches(figure), strict=True) if reach.hand)


def raised(reach: Reach) -> bool:
    """Whether an arm goes up, in front of the hair."""
    return abs(reach.angle) < 30


@dataclass(frozen=True)
class Arm:
    """One arm, placed: its line (n, 2) from shoulder to wrist, and its hand, in units."""

    side: int
    line: Array
    hand: hands.HandContours
    raised: bool
    thick: float = 1.0


def camera(figure: Figure, rng: random.Random) -> Camera:
    """The framing's camera with a little jitter."""
    framing = FRAMINGS[figure.framing]
    zoom = rng.uniform(0.975, 1.015)
    return Camera(framing.unit * zoom, FRAME / 2 + rng.uniform(-1.8, 1.8), framing.y + rng.uniform(-1.0, 1.2))


def arms(figure: Figure, view: Camera, seed: int, severity: dict[str, float]) -> list[Arm]:
    """Both arms, jittered, with the faults of limbs and hands."""
    rng, broken, deformed = (random.Random(f"{name} {seed}") for name in ("arms", "limbs", "hands"))
    placed = []
    for (_, side), reach in zip(SIDES.items(), reaches(figure), strict=True):
        turn = rng.uniform(-8, 8)
        nudge = np.array(
            [
                [0, 0],
                [rng.uniform(-0.04, 0.04), rng.uniform(-0.04, 0.04)],
                [rng.uniform(-0.04, 0.03), rng.uniform(-0.05, 0.05)],
            ]
        )
        line = kink(np.asarray(reach.points) + nudge, severity["limbs"], broken, grows=side > 0)
        kind: hands.HandKind = "peace" if figure.pose == "peace_sign" and raised(reach) else "open"
        hand = hands.deformed(hands.sound(kind), severity["hands"], deformed)
        arm = _arm(figure, view, side, reach, line, hand, turn)
        placed.append(replace(arm, thick=1 + (0.15 if side > 0 else -0.12) * severity["limbs"]))
    return placed


def third_arm(figure: Figure, view: Camera) -> Arm:
    """An arm too many, out of the waist on the viewer's left."""
    reach = Reach(((0.50, 1.62), (0.95, 2.05), (1.30, 1.90)), 78.0)
    return _arm(figure, view, -1, reach, np.asarray(reach.points), hands.sound("open"), 0.0)


def _arm(figure: Figure, view: Camera, side: int, reach: Reach, line: Array, hand: hands.Hand, turn: float) -> Arm:
    size = FRAMINGS[figure.framing].hand / view.unit
    if not reach.hand:
        bare = spline(line * (side, 1), closed=False, steps=6)
        return Arm(side, bare, hands.HandContours((), ()), raised=False)
    x, y = (float(v) for v in line[-1])
    contours = hands.place(hand, (x, y), reach.angle + turn, size, reach.thumb_out)
    shift = _inside(contours, view, side)
    line = line + np.linspace(0, 1, len(line))[:, None] * shift
    move = (lambda c: mirror(c + shift)) if side < 0 else (lambda c: c + shift)
    contours = hands.HandContours(tuple(map(move, contours.union)), tuple(map(move, contours.folded)))
    smooth = spline(line, closed=False, steps=6)
    return Arm(side, mirror(smooth) if side < 0 else smooth, contours, raised(reach))


def _inside(contours: hands.HandContours, view: Camera, side: int) -> Array:
    """The shift in units that keeps a hand 1.5 px inside the picture."""
    real = [view(mirror(c) if side < 0 else c) for c in contours.union]
    left, top, right, bottom = bounds(real)
    low, high = 1.5, FRAME - 1.5
    dx = max(0.0, low - left) - max(0.0, right - high)
    dy = max(0.0, low - top) - max(0.0, bottom - high)
    return np.array([dx * side, dy]) / view.unit


SLEEVES: dict[str, int] = {"t-shirt": 6, "sailor_collar": 6, "hoodie": 12, "dress": 0}  # of an arm's 13 points
_RADII = (0.165, 0.125)


def draw_arm(pen: Pen, arm: Arm, figure: Figure) -> None:
    """A whole arm: skin and hand as one outline, then the sleeve."""
    radii = (np.linspace(*_RADII, len(arm.line)) * arm.thick).tolist()
    skin = SKIN[figure.skin]
    pen.shape(tube(arm.line, radii, steps=1), *arm.hand.union, color=skin, part="skin")
    _fold(pen, arm, skin)
    count = SLEEVES[figure.clothes]
    if count:
        wide = (np.linspace(_RADII[0] + 0.05, _RADII[1] + 0.09, count) * arm.thick).tolist()
        pen.shape(
            tube(arm.line[:count], wide, 1, flat=True), color=CLOTHES[figure.clothes_color], part="clothes", shade=0.06
        )
    if figure.clothes == "hoodie":
        _cuff(pen, arm, figure)


def draw_over(pen: Pen, arm: Arm, figure: Figure) -> None:
    """The raised half of an arm once more, over head and hair."""
    half, skin = arm.line[7:], SKIN[figure.skin]
    sleeve = figure.clothes == "hoodie"
    radii = (np.linspace(*_RADII, len(arm.line)) * arm.thick).tolist()
    pen.shape(tube(half, radii[7:], 1), *arm.hand.union, color=skin, part="skin")
    joint = arm.line[5:10]
    if sleeve:
        wide = (np.linspace(_RADII[0] + 0.07, _RADII[1] + 0.09, 5) * arm.thick).tolist()
        cloth = CLOTHES[figure.clothes_color]
        pen.shape(tube(arm.line[7:12], wide, 1, flat=True), color=cloth, part="clothes")
        pen.shape(tube(arm.line[5:9], 0.19 * arm.thick, 1), color=cloth, part="clothes", line=0)
        _cuff(pen, arm, figure)
    else:
        pen.shape(tube(joint[1:], radii[6:10], 1), color=skin, part="skin", line=0)
    _fold(pen, arm, skin)


def _fold(pen: Pen, arm: Arm, skin: RGB) -> None:
    for contour in arm.hand.folded:
        pen.shape(contour, color=skin, part="skin", line=0.75)


def _cuff(pen: Pen, arm: Arm, figure: Figure) -> None:
    cloth = CLOTHES[figure.clothes_color]
    pen.shape(tube(arm.line[10:12], 0.225 * arm.thick, 1, flat=True), color=cloth, part="clothes", line=0.9)


def hand_boxes(view: Camera, placed: list[Arm]) -> dict[str, tuple[float, float, float, float]]:
    """The boxes of the hands, in pixels of a 128 px picture."""
    names = {side: name for name, side in SIDES.items()}
    return {names[arm.side]: bounds([view(c) for c in arm.hand.union]) for arm in placed if arm.hand.union}


def shoulder_patch(pen: Pen, arm: Arm, color: RGB) -> None:
    """Hides the outline where a sleeve meets the body."""
    x, y = arm.line[1]
    pen.shape(tube([(x - 0.14 * arm.side, y + 0.05), (x, y)], 0.15), color=color, part="clothes", line=0)
