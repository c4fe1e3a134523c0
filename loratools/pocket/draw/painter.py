"""Painters: from a scene to pixels. The base one is the house style; the others change its colours and lines."""

from __future__ import annotations

import random
from typing import ClassVar

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from loratools.pocket.draw.geometry import Array
from loratools.pocket.draw.palette import LINE, RGB, shadow
from loratools.pocket.draw.scene import FRAME, Item, Scene

SUPERSAMPLE = 3


class Painter:
    """Flat colours under bold outlines, with one cel shadow: the house style.

    Everything is drawn at three times the size and reduced, which is the antialiasing.
    """

    line_scale: ClassVar[float] = 1.0
    ground: ClassVar[RGB] = (255, 255, 255)

    def __init__(self, size: int, seed: int) -> None:
        self.size = size
        self.scale = SUPERSAMPLE * size / FRAME
        self.rng = random.Random(f"painter {seed}")
        self.noise = np.random.default_rng(seed % 2**32)
        self.side = size * SUPERSAMPLE
        self.image = Image.new("RGB", (self.side, self.side), self.ground)
        self.draw = ImageDraw.Draw(self.image)

    def paint(self, scene: Scene) -> Image.Image:
        """The finished picture, RGB, ``size`` pixels a side."""
        for item in scene.items:
            self.item(item)
        self.finish()
        if scene.smear > 0:
            self.smear(scene)
        return self.reduced()

    def item(self, item: Item) -> None:
        """Draw one item: its outline, its fill, its shadow."""
        contours = [contour * self.scale for contour in item.contours]
        width = item.line * self.line_scale * self.scale
        if width:
            for contour in contours:
                self.outline(contour, width, item)
        color = self.fill(item)
        for contour in contours:
            self.draw.polygon(contour.ravel().tolist(), fill=color)
        if item.shade:
            self.shade(item, contours)

    def outline(self, contour: Array, width: float, item: Item) -> None:
        """Draw one contour's outline, ``width`` pixels to either side (the fill then covers the inner half)."""
        thick_outline(self.draw, contour, width, self.line(item))

    def line(self, item: Item) -> RGB:
        """The colour of an item's outline."""
        return LINE

    def fill(self, item: Item) -> RGB:
        """The colour of an item's area."""
        return item.color

    def shade(self, item: Item, contours: list[Array]) -> None:
        """The cel shadow along the lower right edge."""
        edge = edge_mask(contours, item.shade * self.scale, self.side)
        if edge is not None:
            mask, corner = edge
            self.image.paste(shadow(self.fill(item)), (*corner, corner[0] + mask.width, corner[1] + mask.height), mask)

    def finish(self) -> None:
        """What is done to the whole picture at the end."""

    def smear(self, scene: Scene) -> None:
        """Blur the face, the more the worse."""
        left, top, right, bottom = (round(v * self.scale) for v in scene.boxes["face"])
        box = (max(left, 0), max(top, 0), min(right, self.side), min(bottom, self.side))
        radius = 0.013 * (right - left) * scene.smear
        blurred = self.image.crop(box).filter(ImageFilter.GaussianBlur(radius))
        mask = Image.new("L", blurred.size, 0)
        inset = round(0.06 * blurred.width)
        ImageDraw.Draw(mask).ellipse((inset, inset, mask.width - inset, mask.height - inset), fill=255)
        self.image.paste(blurred, box, mask.filter(ImageFilter.BoxBlur(inset)))

    def reduced(self) -> Image.Image:
        """The picture at its own size."""
        return self.image.reduce(SUPERSAMPLE)


def thick_outline(draw: ImageDraw.ImageDraw, contour: Array, width: float, color: RGB | int) -> None:
    """A closed line of ``2 * width`` pixels, with round joints where it turns sharply."""
    flat = contour.ravel().tolist()
    draw.line([*flat, *flat[:4]], fill=color, width=max(1, round(2 * width)))
    after = np.empty_like(contour)
    after[:-1], after[-1] = contour[1:] - contour[:-1], contour[0] - contour[-1]
    before = np.empty_like(after)
    before[1:], before[0] = after[:-1], after[-1]
    turn, ahead = after[:, 0] * before[:, 1] - after[:, 1] * before[:, 0], (after * before).sum(axis=1)
    sharp = np.abs(turn) > 0.42 * ahead
    for x, y in contour[sharp].tolist():
        draw.ellipse((x - width, y - width, x + width, y + width), fill=color)


def edge_mask(contours: list[Array], offset: float, side: int) -> tuple[Image.Image, tuple[int, int]] | None:
    """The union of ``contours`` less itself moved up and left: a mask (L), and its place in a ``side`` px picture."""
    everything = np.concatenate(contours)
    low = np.maximum(np.floor(everything.min(axis=0)), 0).astype(int)
    high = np.minimum(np.ceil(everything.max(axis=0)), side).astype(int)
    if (high <= low).any():
        return None
    mask = Image.new("L", (int(high[0] - low[0]), int(high[1] - low[1])), 0)
    draw = ImageDraw.Draw(mask)
    for shift, value in ((np.zeros(2), 255), (np.array([-offset, -offset * 0.7]), 0)):
        for contour in contours:
            draw.polygon((contour - low + shift).ravel().tolist(), fill=value)
    return mask, (int(low[0]), int(low[1]))
