"""A strip: the same prompts and seeds in a few labelled columns side by side, to compare at a glance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from loratools.files import replacing
from loratools.imaging.colours import GREY, INK, PAPER
from loratools.imaging.lettering import Lettering

_SMALL = 128  # pictures with a shorter side are enlarged by a whole factor
_GAP = 8


@dataclass(frozen=True)
class Column:
    """A label over pictures; every column has as many, in the same order.

    ``note`` is small text below the label, ``figures`` are lines of it below the pictures.
    """

    label: str
    pictures: tuple[Path, ...]
    note: str = ""
    figures: tuple[str, ...] = ()


def write_strip(path: Path, title: str, columns: Sequence[Column]) -> None:
    """Draw ``columns`` side by side to the PNG ``path``, a row for each picture of a column."""
    from PIL import Image, ImageDraw

    with Image.open(columns[0].pictures[0]) as first:
        zoom = max(1, -(-_SMALL // min(first.size)))
        wide, tall = first.width * zoom, first.height * zoom
    texts = title + "".join(column.label + column.note + "".join(column.figures) for column in columns)
    label, small, head = Lettering(17, texts), Lettering(13, texts), Lettering(20, texts)
    lines = [line for column in columns for line in (column.note, *column.figures)]
    room = max([wide, *(label.width(column.label) for column in columns), *map(small.width, lines)])
    top = 3 * _GAP + head.line + label.line + (small.line if any(column.note for column in columns) else 0)
    width = 2 * _GAP + len(columns) * (room + _GAP)
    width = max(width, 2 * _GAP + head.width(title) + _GAP)
    bottom = top + len(columns[0].pictures) * (tall + _GAP)
    below = max(len(column.figures) for column in columns) * small.line
    sheet = Image.new("RGB", (width, bottom + below + _GAP), PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((2 * _GAP, _GAP), title, fill=INK, font=head.font)
    for index, column in enumerate(columns):
        x = 2 * _GAP + index * (room + _GAP)
        pen.text((x + room // 2, 2 * _GAP + head.line), column.label, fill=INK, font=label.font, anchor="ma")
        pen.text(
            (x + room // 2, 2 * _GAP + head.line + label.line), column.note, fill=GREY, font=small.font, anchor="ma"
        )
        for row, picture in enumerate(column.pictures):
            with Image.open(picture) as opened:
                shown = opened.convert("RGB").resize((wide, tall), Image.Resampling.NEAREST)
            sheet.paste(shown, (x + (room - wide) // 2, top + row * (tall + _GAP)))
        for row, text in enumerate(column.figures):
            pen.text((x + room // 2, bottom + row * small.line), text, fill=INK, font=small.font, anchor="ma")
    with replacing(path) as part:
        sheet.save(part, format="PNG")
