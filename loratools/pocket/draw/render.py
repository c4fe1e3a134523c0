"""Drawing a figure, and laying drawings out on a sheet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from loratools.errors import PocketError
from loratools.pocket.draw.compose import compose
from loratools.pocket.draw.figure import Figure
from loratools.pocket.draw.scene import FRAME
from loratools.pocket.draw.styles import PAINTERS


@dataclass(frozen=True)
class Drawing:
    """A picture (RGB) and the boxes (left, top, right, bottom in its pixels) of ``face`` and the visible hands.

    ``left_hand`` and ``right_hand`` are the viewer's.
    """

    image: Image.Image
    boxes: dict[str, tuple[float, float, float, float]]


def draw(figure: Figure, seed: int, size: int = 128) -> Drawing:
    """Draw a figure, ``size`` pixels a side; the same figure, seed and size give the same pixels.

    Raises:
        PocketError: for a size below 32.
    """
    if size < 32:
        raise PocketError(f"a drawing of {size} px is too small to show anything; ask for 32 or more.")
    scene = compose(figure, seed)
    image = PAINTERS[figure.style](size, seed).paint(scene)
    scale = size / FRAME
    boxes = {}
    for name, (left, top, right, bottom) in scene.boxes.items():
        inside = (max(left, 0.0), max(top, 0.0), min(right, FRAME), min(bottom, FRAME))
        boxes[name] = (inside[0] * scale, inside[1] * scale, inside[2] * scale, inside[3] * scale)
    return Drawing(image, boxes)


def contact_sheet(pictures: Sequence[Figure | Drawing], columns: int) -> Image.Image:
    """All pictures on one sheet, row by row; a figure is drawn with its place as the seed.

    Raises:
        PocketError: for no pictures, or no columns.
    """
    if not pictures or columns < 1:
        raise PocketError("a contact sheet needs at least one picture and one column.")
    images = [p.image if isinstance(p, Drawing) else draw(p, seed).image for seed, p in enumerate(pictures)]
    side, gap = max(image.width for image in images), 2
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * (side + gap) + gap, rows * (side + gap) + gap), (255, 255, 255))
    for index, image in enumerate(images):
        sheet.paste(image, (gap + index % columns * (side + gap), gap + index // columns * (side + gap)))
    return sheet
