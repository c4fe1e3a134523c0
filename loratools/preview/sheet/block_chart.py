"""A block vector as a picture: a bar for each block, with what a LoRA has there before and after."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loratools.blocks.explain import BlockRow, BlockShare
from loratools.files import replacing
from loratools.imaging.colours import GREY, INK, LINE, PAPER
from loratools.imaging.lettering import Lettering

_BAR, _PART = "#3b6ea5", "#c98b3c"
_WIDE, _TALL = 46, 220  # a column's width and the height of weight 1, in pixels
_LEFT, _SHARES = 56, 100  # where the columns begin, and the height of the largest share


@dataclass(frozen=True)
class _Sheet:
    """A drawing in progress: its pen and letters, and the heights of weight 0 and of the lowest bar's end."""

    pen: Any
    letters: Lettering
    zero: int
    low: int


def write_bars(path: Path, title: str, rows: Sequence[BlockRow]) -> None:
    """Draw ``rows`` to the PNG ``path``: weights as blue bars; where a LoRA is given, its shares of the squared norm
    as ochre bars below, before (hollow) and after (full)."""
    from PIL import Image, ImageDraw

    head = Lettering(20, title)
    weights = [row.weight or 0.0 for row in rows]
    top, low = max([1.0, *weights]), min([0.0, *weights])
    zero = 60 + round(top * _TALL)
    bottom = zero - round(low * _TALL)
    parts = [row.part for row in rows if row.part is not None]
    width = max(_LEFT + len(rows) * _WIDE, _LEFT + head.width(title)) + 24
    image = Image.new("RGB", (width, bottom + (222 if parts else 40)), PAPER)
    sheet = _Sheet(ImageDraw.Draw(image), Lettering(13), zero, bottom)
    sheet.pen.text((_LEFT, 16), title, fill=INK, font=head.font)
    _draw_scale(sheet, low, top, width)
    highest = max([1e-9, *(max(part.before, part.after) for part in parts)])
    for index, row in enumerate(rows):
        x = _LEFT + index * _WIDE + 6
        _draw_bar(sheet, row, x)
        if row.part is not None:
            _draw_part(sheet, row.part, x, highest)
    if parts:
        text = "share of the LoRA's squared norm, before and after"
        sheet.pen.text((_LEFT, bottom + 36), text, fill=GREY, font=sheet.letters.font)
    with replacing(path) as part_file:
        image.save(part_file, format="PNG")


def _draw_scale(sheet: _Sheet, low: float, top: float, width: int) -> None:
    for mark in range(math.ceil(low * 2), int(top * 2) + 1):
        y = sheet.zero - round(mark * _TALL / 2)
        sheet.pen.line([(_LEFT, y), (width - 16, y)], fill=INK if mark == 0 else LINE)
        sheet.pen.text((_LEFT - 8, y), f"{mark / 2:g}", fill=GREY, font=sheet.letters.font, anchor="rm")


def _draw_bar(sheet: _Sheet, row: BlockRow, x: int) -> None:
    value = round((row.weight or 0.0) * _TALL)
    box = (x, sheet.zero - max(value, 0), x + _WIDE - 12, sheet.zero - min(value, 0))
    if row.weight is not None:
        sheet.pen.rectangle(box, fill=_BAR)
    middle, font = x + (_WIDE - 12) // 2, sheet.letters.font
    text = "-" if row.weight is None else f"{row.weight:g}"
    sheet.pen.text((middle, box[1] - 4), text, fill=INK, font=font, anchor="mb")
    sheet.pen.text((middle, sheet.low + 18), row.block, fill=INK, font=font, anchor="mm")


def _draw_part(sheet: _Sheet, part: BlockShare, x: int, highest: float) -> None:
    base = sheet.low + 166
    for share, fill, side in ((part.before, None, 0), (part.after, _PART, 17)):
        height = round(_SHARES * share / highest)
        sheet.pen.rectangle((x + side, base - height, x + side + 15, base), fill=fill, outline=_PART)
    middle = x + (_WIDE - 12) // 2
    sheet.pen.text((middle, base + 14), f"{100 * part.after:.0f}%", fill=GREY, font=sheet.letters.font, anchor="mm")
