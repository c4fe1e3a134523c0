"""``grid.png``: one labelled sheet, rows down and columns across, the base in front, a table for each further value."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loratools.files import replacing
from loratools.preview.grid import Grid, Picture
from loratools.preview.layout import Layout, by_cell, plan_layout, wrapped

if TYPE_CHECKING:
    from PIL.Image import Image

PAPER, INK, GREY, LINE = "#fbfaf7", "#1d1d20", "#77757a", "#d9d6cf"
_MOST_PROMPTS = 12


def write_sheet(folder: Path, grid: Grid) -> None:
    """Draw ``grid.png`` from the grid's record and its pictures in ``folder``."""
    image = draw_sheet(folder, grid)
    with replacing(folder / "grid.png") as part:
        image.save(part, format="PNG")


def draw_sheet(folder: Path, grid: Grid) -> Image:
    """The sheet as a picture."""
    from PIL import Image as images
    from PIL import ImageDraw

    layout = plan_layout(grid)
    width, bottom = layout.size
    footer = _footer(grid, layout, width - 2 * layout.margin)
    height = bottom + (len(footer) * layout.small.line + layout.margin if footer else 0)
    sheet = images.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(sheet)
    line = layout.title.wrap(grid.title, width - 2 * layout.margin, 1)[0]
    pen.text((layout.margin, layout.margin), line, fill=INK, font=layout.title.font)
    for part in range(len(layout.table.parts)):
        _draw_headings(pen, layout, part)
    for (part, row, column), pictures in by_cell(grid).items():
        at = (layout.left(column, part), layout.top(row, part))
        _draw_tile(sheet, folder, pictures, layout, at)
        if text := grid.badges.get((pictures[0].row, pictures[0].weight)):
            middle = (at[0] + layout.tile[0] // 2, at[1] + layout.tile[1] + layout.badge // 2)
            pen.text(middle, text, fill=GREY, font=layout.small.font, anchor="mm")
    _draw_footer(pen, footer, layout, bottom - layout.margin, width)
    return sheet


def _draw_headings(pen: Any, layout: Layout, part: int) -> None:
    """A table's title, the columns' headings on one baseline, the rows' labels, and lines that set the base apart."""
    table, (x, y) = layout.table, layout.corner(part)
    if table.parts[part]:
        room = layout.block[0]
        pen.text((x, y), layout.title.wrap(table.parts[part], room, 1)[0], fill=INK, font=layout.title.font)
    base = layout.top(0, part) - layout.gap
    pen.text(
        (layout.left(0, part) - 2 * layout.gap, base), table.corner, fill=GREY, font=layout.small.font, anchor="rb"
    )
    for column, heading in enumerate(table.columns):
        middle = layout.left(column, part) + layout.tile[0] // 2
        names, under = wrapped(heading, layout.label, layout.small, layout.tile[0])
        top = base - len(names) * layout.label.line - len(under) * layout.small.line
        for line in names:
            pen.text((middle, top), line, fill=GREY if heading.base else INK, font=layout.label.font, anchor="ma")
            top += layout.label.line
        for line in under:
            pen.text((middle, top), line, fill=GREY, font=layout.small.font, anchor="ma")
            top += layout.small.line
    for row, heading in enumerate(table.rows):
        _draw_label(pen, layout, (row, part), heading.label, heading.under, GREY if heading.base else INK)
    _draw_lines(pen, layout, part)


def _draw_lines(pen: Any, layout: Layout, part: int) -> None:
    table, thin = layout.table, max(1, layout.gap // 6)
    right = layout.left(len(table.columns), part) - layout.gap
    bottom = layout.top(len(table.rows), part) - layout.gap
    if len(table.columns) > 1 and table.columns[0].base:
        x = (layout.left(0, part) + layout.tile[0] + layout.left(1, part)) // 2
        pen.line([(x, layout.top(0, part)), (x, bottom)], fill=LINE, width=thin)
    if len(table.rows) > 1 and table.rows[0].base:
        y = (layout.top(0, part) + layout.tile[1] + layout.badge + layout.top(1, part)) // 2
        pen.line([(layout.left(0, part), y), (right, y)], fill=LINE, width=thin)


def _draw_label(pen: Any, layout: Layout, at: tuple[int, int], label: str, note: str, ink: str) -> None:
    """The row's name and its note, as a block centred on the row, right-aligned against the pictures."""
    room, tile = layout.gutter - 2 * layout.gap, layout.tile[1]
    names = layout.label.wrap(label, room, max(1, min(4, tile // layout.label.line)))
    left = max(0, (tile - len(names) * layout.label.line) // layout.small.line)
    notes = layout.small.wrap(note, room, left) if note and left else []
    row, part = at
    right = layout.corner(part)[0] + room
    y = layout.top(row, part) + (tile - len(names) * layout.label.line - len(notes) * layout.small.line) // 2
    for line in names:
        pen.text((right, y), line, fill=ink, font=layout.label.font, anchor="ra")
        y += layout.label.line
    for line in notes:
        pen.text((right, y), line, fill=GREY, font=layout.small.font, anchor="ra")
        y += layout.small.line


def _draw_tile(sheet: Image, folder: Path, pictures: Sequence[Picture], layout: Layout, at: tuple[int, int]) -> None:
    from PIL import Image as images

    for place, picture in enumerate(pictures):
        with images.open(folder / picture.file) as opened:
            image = _fitted(opened.convert("RGB"), layout.picture)
        down, across = divmod(place, layout.across)
        x = at[0] + across * (layout.picture[0] + layout.inner) + (layout.picture[0] - image.width) // 2
        y = at[1] + down * (layout.picture[1] + layout.inner) + (layout.picture[1] - image.height) // 2
        sheet.paste(image, (x, y))


def _fitted(image: Image, room: tuple[int, int]) -> Image:
    """As large as fits ``room``, by a whole factor where it is enlarged."""
    from PIL.Image import Resampling

    factor = min(room[0] / image.width, room[1] / image.height)
    if factor >= 1:
        factor = int(factor)
    if factor == 1:
        return image
    size = max(1, round(image.width * factor)), max(1, round(image.height * factor))
    return image.resize(size, Resampling.NEAREST if factor > 1 else Resampling.LANCZOS)


def _footer(grid: Grid, layout: Layout, width: int) -> list[str]:
    """Prompts, negative prompt and seeds that no heading says, wrapped to the sheet's width."""
    said = {axis.kind for axis in grid.shown if axis.slot}
    many = len(grid.prompts) > 1
    shown = [] if "prompt" in said or (many and "s/r" in said) else grid.prompts[:_MOST_PROMPTS]
    lines = [f"prompt {i}:  {text}" if many else f"prompt:  {text}" for i, text in enumerate(shown, start=1)]
    if shown and len(grid.prompts) > len(shown):
        lines.append(f"and {len(grid.prompts) - len(shown)} more prompts, in grid.json")
    if grid.settings.negative and "negative" not in said:
        lines.append(f"negative:  {grid.settings.negative}")
    if "seed" not in said:
        seeds = ", ".join(str(seed) for seed in grid.seeds)
        order = "  (in a cell: prompts down, seeds across)" if many and shown and len(grid.seeds) > 1 else ""
        lines.append(f"seed{'s' if len(grid.seeds) > 1 else ''}:  {seeds}{order}")
    return [line for text in lines for line in layout.small.wrap(text, width, 4)]


def _draw_footer(pen: Any, lines: Sequence[str], layout: Layout, bottom: int, width: int) -> None:
    y = bottom + layout.margin
    pen.line([(layout.margin, y), (width - layout.margin, y)], fill=LINE, width=max(1, layout.gap // 6))
    y += layout.gap
    for line in lines:
        pen.text((layout.margin, y), line, fill=GREY, font=layout.small.font)
        y += layout.small.line
