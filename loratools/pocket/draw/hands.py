"""Hands: a palm and five splayed digits, and the ways in which they go wrong."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from loratools.pocket.draw.geometry import Array, ellipse, mirror, rotate, tube

HandKind = Literal["open", "peace"]


@dataclass(frozen=True, slots=True)
class Digit:
    """A finger in a hand of height 1 whose fingers point up.

    ``angle`` is in degrees from up, clockwise; ``reach`` from the palm's centre to the tip; ``bend`` in degrees at
    the knuckle.
    """

    angle: float
    reach: float
    radius: float = 0.070
    bend: float = 0.0


@dataclass(frozen=True, slots=True)
class Hand:
    """Digits about a palm; ``folded`` ones lie as bumps on it."""

    digits: tuple[Digit, ...]
    folded: tuple[Digit, ...] = ()
    palm: float = 1.0
    lumps: tuple[tuple[float, float, float], ...] = ()


PALM = (0.0, -0.30)
_THUMB = Digit(-104.0, 0.52, 0.080)
_SOUND: dict[HandKind, Hand] = {
    "open": Hand((_THUMB, Digit(-51, 0.63), Digit(-17, 0.695), Digit(17, 0.695), Digit(51, 0.61))),
    "peace": Hand(
        (Digit(-24, 0.80, 0.082), Digit(18, 0.80, 0.082)),
        folded=(Digit(62, 0.20, 0.085), Digit(118, 0.19, 0.085), Digit(-112, 0.17, 0.085)),
    ),
}


def sound(kind: HandKind) -> Hand:
    """The canonical hand of a kind: five digits, spread."""
    return _SOUND[kind]


def _middle(hand: Hand, rng: random.Random) -> int:
    """A finger that is not at either end of the fan, where there is one."""
    return rng.randrange(1, len(hand.digits) - 1) if len(hand.digits) > 2 else 0


def _drop(hand: Hand, rng: random.Random) -> Hand:
    """One finger missing."""
    if len(hand.digits) < 2:
        return hand
    index = _middle(hand, rng)
    return replace(hand, digits=hand.digits[:index] + hand.digits[index + 1 :])


def _extra(hand: Hand, rng: random.Random) -> Hand:
    """One finger too many: the fan is shared out again, so that it is seen between the others."""
    fan = sorted((d for d in hand.digits if d.angle > -80), key=lambda d: d.angle)
    others = tuple(d for d in hand.digits if d.angle <= -80)
    if not fan:
        return hand
    low, high = min(fan[0].angle, -40.0), max(fan[-1].angle, 44.0) + 12
    new = fan[len(fan) // 2]
    fan.insert(len(fan) // 2, new)
    step = (high - low) / (len(fan) - 1)
    spread = (replace(d, angle=low + i * step, radius=min(d.radius, 0.062)) for i, d in enumerate(fan))
    return replace(hand, digits=(*others, *spread))


def _fuse(hand: Hand, rng: random.Random) -> Hand:
    """Two neighbours grown into one thick finger."""
    if len(hand.digits) < 2:
        return _swell(hand, rng)
    index = rng.randrange(max(1, len(hand.digits) - 2), len(hand.digits))
    a, b = hand.digits[index - 1], hand.digits[index]
    one = Digit((a.angle + b.angle) / 2, (a.reach + b.reach) / 2 - 0.03, min(a.radius + b.radius + 0.03, 0.18))
    return replace(hand, digits=(*hand.digits[: index - 1], one, *hand.digits[index + 1 :]))


def _swell(hand: Hand, rng: random.Random) -> Hand:
    """One finger swollen."""
    return _change(hand, _middle(hand, rng), lambda d: replace(d, radius=d.radius * 1.9))


def _crook(hand: Hand, rng: random.Random) -> Hand:
    """One finger bent sideways at the knuckle."""
    return _change(
        hand, _middle(hand, rng), lambda d: replace(d, bend=math.copysign(95, rng.random() - 0.5), reach=d.reach * 1.1)
    )


def _change(hand: Hand, index: int, how: Callable[[Digit], Digit]) -> Hand:
    digits = list(hand.digits)
    digits[index] = how(digits[index])
    return replace(hand, digits=tuple(digits))


def _twist(hand: Hand, rng: random.Random) -> Hand:
    """One finger swollen and another one bent."""
    if len(hand.digits) < 3:
        return _crook(hand, rng)
    swollen, crooked = rng.sample(range(1, len(hand.digits)), 2)
    hand = _change(hand, swollen, lambda d: replace(d, radius=d.radius * 1.8))
    return _change(hand, crooked, lambda d: replace(d, bend=math.copysign(95, rng.random() - 0.5), reach=d.reach * 1.1))


_SLIGHT = (_drop, _extra, _fuse, _swell, _crook)
# no two of a row undo each other
_CLEAR = ((_extra, _twist), (_drop, _twist), (_fuse, _twist), (_extra, _extra, _crook), (_drop, _drop, _crook))


def _mangle(hand: Hand, rng: random.Random) -> Hand:
    """A mess: a swollen lumpy palm with stubs and thin fingers at any angle."""
    count = rng.choice((3, 7, 8, 9))
    digits = tuple(
        Digit(
            -115 + 240 * (i + rng.uniform(-0.3, 0.3)) / (count - 1),
            rng.choice((0.38, 0.5, 0.62, 0.74)),
            rng.uniform(0.10, 0.15) if count == 3 else rng.uniform(0.045, 0.09),
            rng.choice((-100, 0, 100)),
        )
        for i in range(count)
    )
    lumps = tuple((rng.uniform(-0.3, 0.3), rng.uniform(-0.6, -0.1), rng.uniform(0.1, 0.16)) for _ in range(4))
    return Hand(digits, palm=1.35, lumps=lumps)


def deformed(hand: Hand, severity: float, rng: random.Random) -> Hand:
    """``hand`` with faults of a severity: about 1 has one small thing wrong, 2 several, 3 is a mangled mess."""
    if severity <= 0:
        return hand
    if severity > 2.5:
        return _mangle(hand, rng)
    if severity <= 1.5:
        return rng.choice(_SLIGHT)(hand, rng)
    for fault in rng.choice(_CLEAR):
        hand = fault(hand, rng)
    wild = tuple(
        replace(d, angle=d.angle + rng.uniform(-14, 14), reach=d.reach * rng.uniform(0.72, 1.12)) for d in hand.digits
    )
    return replace(hand, digits=wild, palm=1.22)


def _digit_contour(digit: Digit) -> Array:
    turn = np.radians(digit.angle)
    along = np.array([np.sin(turn), -np.cos(turn)])
    tip = digit.reach - digit.radius
    if not digit.bend:
        return tube(np.array([PALM + along * 0.05, PALM + along * tip]), digit.radius)
    knuckle = PALM + along * tip * 0.66
    bent = np.radians(digit.angle + digit.bend)
    end = knuckle + np.array([np.sin(bent), -np.cos(bent)]) * tip * 0.42
    return tube(np.array([PALM + along * 0.05, knuckle, end]), digit.radius)


@dataclass(frozen=True, slots=True)
class HandContours:
    """Closed contours in figure units: the union of palm and digits, and the folded digits upon it."""

    union: tuple[Array, ...]
    folded: tuple[Array, ...]


def place(hand: Hand, wrist: tuple[float, float], angle: float, size: float, flip: bool) -> HandContours:
    """The hand at ``wrist`` with fingers towards ``angle`` (degrees from up, clockwise), ``size`` units high."""
    palm = [ellipse(PALM[0], PALM[1], 0.19 * hand.palm, 0.20 * hand.palm)]
    lumps = [ellipse(x, y, r, r, count=16) for x, y, r in hand.lumps]
    folded = [_folded_contour(digit) for digit in hand.folded]

    def put(contour: Array) -> Array:
        return rotate(mirror(contour) if flip else contour, angle) * size + wrist

    return HandContours(
        tuple(put(c) for c in (*palm, *lumps, *(_digit_contour(d) for d in hand.digits))),
        tuple(put(c) for c in folded),
    )


def _folded_contour(digit: Digit) -> Array:
    turn = math.radians(digit.angle)
    x, y = PALM[0] + math.sin(turn) * digit.reach, PALM[1] - math.cos(turn) * digit.reach
    return ellipse(x, y, digit.radius * 1.35, digit.radius, digit.angle * 0.2, count=18)
