"""A block vector as a picture: a bar for each block, with what a LoRA has there before and after."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from loratools.blocks.explain import BlockRow
from loratools.files import replacing
from loratools.preview.sheet import GREY, INK, LINE, PAPER
from loratools.preview.type import Lettering

_BAR, _PART = "#3b6ea5", "#c98b3c"
_WIDE, _TALL = 46, 220  # a column's width and the height of weight 1, in pixels


def write_bars(path: Path, title: str, rows: Sequence[BlockRow]) -> None:
    """Draw ``rows`` to the PNG ``path``: weights as blue bars; where a LoRA is given, its shares of the squared norm
    as ochre bars below, before (hollow) and after (full)."""
    from PIL import Image, ImageDraw

    small, head = Lettering(13), Lettering(20, title)
    weights = [row.weight or 0.0 for row in rows]
    top, low = max([1.0, *weights]), min([0.0, *weights])
    tall, deep = round(top * _TALL), round(-low * _TALL)
    parts = any(row.part is not None for row in rows)
    left, zero = 56, 60 + tall
    floor = zero + deep + 56
    width = max(left + len(rows) * _WIDE + 24, left + head.width(title) + 24)
    sheet = Image.new("RGB", (width, floor + (150 if parts else 0) + 16), PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((left, 16), title, fill=INK, font=head.font)
    for mark in range(int(low * 2) - 1, int(top * 2) + 1):
        y = zero - round(mark * _TALL / 2)
        if y <= zero + deep:
            pen.line([(left, y), (width - 16, y)], fill=INK if mark == 0 else LINE)
            pen.text((left - 8, y), f"{mark / 2:g}", fill=GREY, font=small.font, anchor="rm")
    share = max([row.part.before for row in rows if row.part] + [row.part.after for row in rows if row.part] + [1e-9])
    for index, row in enumerate(rows):
        x = left + index * _WIDE + 6
        value = round((row.weight or 0.0) * _TALL)
        box = (x, zero - max(value, 0), x + _WIDE - 12, zero - min(value, 0))
        if row.weight is not None:
            pen.rectangle(box, fill=_BAR)
        middle = x + (_WIDE - 12) // 2
        text = "-" if row.weight is None else f"{row.weight:g}"
        pen.text((middle, box[1] - 4), text, fill=INK, font=small.font, anchor="mb")
        pen.text((middle, zero + deep + 18), row.block, fill=INK, font=small.font, anchor="mm")
        if row.part is not None:
            base = floor + 110
            for part, fill, side in ((row.part.before, None, 0), (row.part.after, _PART, 17)):
                height = round(100 * part / share)
                pen.rectangle((x + side, base - height, x + side + 15, base), fill=fill, outline=_PART)
            pen.text((middle, base + 14), f"{100 * row.part.after:.0f}%", fill=GREY, font=small.font, anchor="mm")
    if parts:
        pen.text((left, floor - 20), "share of the LoRA's squared norm, before and after", fill=GREY, font=small.font)
    with replacing(path) as part_file:
        sheet.save(part_file, format="PNG")
