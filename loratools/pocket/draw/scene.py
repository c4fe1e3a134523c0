"""A drawing before it has a style: an ordered list of flat shapes in picture coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from loratools.pocket.draw.geometry import Array, Points, rotate, tube
from loratools.pocket.draw.palette import LINE, RGB

Part = Literal["background", "skin", "hair", "clothes", "eye", "accessory", "line", "glow", "blush", "chaos"]
FRAME = 128.0  # scenes are laid out for a picture of this many pixels a side; painters scale


@dataclass(frozen=True, slots=True)
class Item:
    """The union of some closed contours (each (n, 2), in pixels of a 128 px picture), in one flat colour.

    ``line`` is the outline's width outside the union, ``shade`` the width of its cel shadow, both in pixels.
    """

    contours: tuple[Array, ...]
    color: RGB
    part: Part
    line: float = 0.0
    shade: float = 0.0


@dataclass(frozen=True, slots=True)
class Camera:
    """From figure units (1 = half the head's width, head centre at 0, 0) to pixels."""

    unit: float
    x: float
    y: float
    tilt: float = 0.0  # degrees, about the neck
    pivot: tuple[float, float] = (0.0, 1.0)

    def __call__(self, points: Points | Array) -> Array:
        turned = rotate(points, self.tilt, self.pivot) if self.tilt else np.asarray(points, dtype=np.float64)
        return turned * self.unit + (self.x, self.y)


PICTURE = Camera(unit=1.0, x=0.0, y=0.0)


@dataclass
class Scene:
    """Shapes from back to front, and the boxes of the parts that matter."""

    items: list[Item] = field(default_factory=list)
    boxes: dict[str, tuple[float, float, float, float]] = field(default_factory=dict)
    smear: float = 0.0  # severity of the smeared face, 0..3.25


@dataclass(frozen=True)
class Pen:
    """Adds shapes to a scene through a camera; ``width`` is the outline in pixels."""

    scene: Scene
    camera: Camera
    width: float

    def shape(self, *contours: Points | Array, color: RGB, part: Part, line: float = 1.0, shade: float = 0.0) -> None:
        """Add the union of closed contours; ``line`` in outlines, ``shade`` in units."""
        placed = tuple(self.camera(contour) for contour in contours)
        self.scene.items.append(Item(placed, color, part, line * self.width, shade * self.camera.unit))

    def stroke(
        self, points: Points | Array, color: RGB = LINE, width: float = 1.0, part: Part = "line", steps: int = 5
    ) -> None:
        """Add an open smooth line, ``width`` in outlines."""
        radius = width * self.width / 2
        self.scene.items.append(Item((tube(self.camera(points), radius, steps),), color, part))


def joined(contours: Sequence[Array]) -> Array:
    """One contour from open pieces laid end to end."""
    return np.concatenate(contours)
