"""The boxes of a drawn figure: its head and its whole body, from the drawing's own shapes."""

from __future__ import annotations

import random

from loratools.dataset.detect.boxes import Box, Boxes
from loratools.pocket.draw import Figure
from loratools.pocket.draw.background import background
from loratools.pocket.draw.compose import compose
from loratools.pocket.draw.geometry import bounds
from loratools.pocket.draw.scene import FRAME, Scene


def figure_boxes(figure: Figure, seed: int, size: int) -> Boxes:
    """The boxes of the figure that ``draw(figure, seed, size)`` draws, as an ideal detector would find them."""
    behind = Scene()
    background(behind, figure.background, random.Random(f"background {seed}"))
    scene = compose(figure, seed)
    contours = [contour for item in scene.items[len(behind.items) :] for contour in item.contours]
    frame, scale = (round(FRAME), round(FRAME)), size / FRAME
    head, person = (
        Box(*corners).within(frame).scaled(scale, scale) for corners in (scene.boxes["face"], bounds(contours))
    )
    return Boxes(head=(head,), person=(person,))


def moved_boxes(boxes: Boxes, rng: random.Random, size: int, noise: float = 0.02) -> Boxes:
    """The boxes as a detector would give them: each side moved by ``noise`` of the box's side, as a standard
    deviation."""

    def moved(box: Box) -> Box:
        across, down = noise * box.width, noise * box.height
        sides = (box.left, box.top, box.right, box.bottom)
        noisy = (side + rng.gauss(0, each) for side, each in zip(sides, (across, down, across, down), strict=True))
        return Box(*noisy).within((size, size))

    return Boxes(head=tuple(map(moved, boxes.head)), person=tuple(map(moved, boxes.person)))
