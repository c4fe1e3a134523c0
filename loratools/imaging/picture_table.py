"""Pictures side by side under titles, a row for each prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from loratools.imaging.colours import GREY, INK, PAPER
from loratools.imaging.lettering import Lettering

if TYPE_CHECKING:
    from PIL.Image import Image

_GAP, _LETTERS = 8, 15


def picture_table(tiles: Sequence[Sequence[Image | None]], titles: Sequence[str], prompts: Sequence[str]) -> Image:
    """The sheet; ``tiles`` row by row, each with a picture or none for every title. One picture at least is there.

    Args:
        prompts: one a row, cut to one line over it.
    """
    from PIL import Image as images
    from PIL import ImageDraw

    shown = [tile for row in tiles for tile in row if tile is not None]
    across, down = max(tile.width for tile in shown), max(tile.height for tile in shown)
    letters = Lettering(_LETTERS, "".join(prompts))
    line = letters.line
    width = _GAP + len(titles) * (across + _GAP)
    sheet = images.new("RGB", (width, _GAP + line + len(tiles) * (down + line + _GAP)), PAPER)
    pen = ImageDraw.Draw(sheet)
    for column, title in enumerate(titles):
        middle = _GAP + column * (across + _GAP) + across // 2
        pen.text((middle, _GAP), title, fill=INK, font=letters.font, anchor="ma")
    for number, row in enumerate(tiles):
        top = _GAP + line + number * (down + line + _GAP)
        (text,) = letters.wrap(" ".join(f"{number + 1}: {prompts[number]}".split()), width - 2 * _GAP, 1)
        pen.text((_GAP, top), text, fill=GREY, font=letters.font)
        for column, tile in enumerate(row):
            if tile is not None:
                left = _GAP + column * (across + _GAP)
                sheet.paste(tile, (left + (across - tile.width) // 2, top + line))
    return sheet
