"""``grid.png``: one labelled sheet, rows down and weights across, the base in front."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loratools.base.infotext import number
from loratools.files import replacing
from loratools.preview.grid import Grid, Picture
from loratools.preview.type import Lettering

if TYPE_CHECKING:
    from PIL.Image import Image

PAPER, INK, GREY, LINE = "#fbfaf7", "#1d1d20", "#77757a", "#d9d6cf"
_MOST_PIXELS = 80_000_000  # below the size at which Pillow and browsers begin to object
_SMALL = 128  # pictures with a shorter side are enlarged by a whole factor
_MOST_PROMPTS = 12


@dataclass(frozen=True)
class Layout:
    """All measures of a sheet in pixels; a tile is one cell: ``across`` x ``down`` pictures."""

    across: int
    down: int
    picture: tuple[int, int]  # width, height
    gap: int
    gutter: int
    margin: int
    header: int
    label: Lettering
    small: Lettering
    title: Lettering
    badge: int

    @property
    def tile(self) -> tuple[int, int]:
        """Width and height of one cell's pictures, with hairlines between them."""
        inner = max(1, self.gap // 4)
        return (
            self.across * self.picture[0] + (self.across - 1) * inner,
            self.down * self.picture[1] + (self.down - 1) * inner,
        )

    def left(self, column: int) -> int:
        """Where a column begins; the base stands a little apart."""
        apart = self.gap * 2 if column else 0
        return self.margin + self.gutter + column * (self.tile[0] + self.gap) + apart

    def top(self, row: int) -> int:
        """Where a row begins."""
        return self.margin + self.header + row * (self.tile[1] + self.badge + self.gap)


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
    width = layout.left(len(grid.weights)) - layout.gap + layout.margin
    footer = _footer(grid, layout, width - 2 * layout.margin)
    bottom = layout.top(len(grid.rows)) - layout.gap
    height = bottom + layout.margin + (len(footer) * layout.small.line + layout.margin if footer else 0)
    sheet = images.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(sheet)
    _draw_header(pen, grid, layout, width)
    for index, info in enumerate(grid.rows):
        _draw_label(pen, layout, index, info.label, info.under)
    for row, weight in grid.cells():
        column = grid.weights.index(weight)
        at = (layout.left(column), layout.top(row))
        _draw_tile(sheet, folder, grid.cell(row, weight), layout, at)
        if text := grid.badges.get((row, weight)):
            middle = (at[0] + layout.tile[0] // 2, at[1] + layout.tile[1] + layout.badge // 2)
            pen.text(middle, text, fill=GREY, font=layout.small.font, anchor="mm")
    _draw_footer(pen, footer, layout, bottom, width)
    return sheet


def arrange(prompts: int, seeds: int) -> tuple[int, int]:
    """Pictures (across, down) in a tile: seeds across and prompts down, or near a square where there is only one."""
    if prompts > 1 and seeds > 1:
        return seeds, prompts
    count = prompts * seeds
    across = math.ceil(math.sqrt(count))
    return across, math.ceil(count / across)


def plan_layout(grid: Grid) -> Layout:
    """Measures that keep the lettering readable and the sheet within what viewers open."""
    across, down = arrange(len(grid.prompts), len(grid.seeds))
    height, width = grid.settings.size
    zoom: float = max(1, math.ceil(_SMALL / min(height, width)))
    pixels = zoom * zoom * height * width * across * down * len(grid.rows) * len(grid.weights)
    if pixels > _MOST_PIXELS:
        zoom *= math.sqrt(_MOST_PIXELS / pixels)
    picture = (max(8, int(width * zoom)), max(8, int(height * zoom)))
    tile = (across * picture[0], down * picture[1])
    texts = "".join([grid.title, *grid.prompts, grid.settings.negative, *(f"{r.label}{r.under}" for r in grid.rows)])
    size = min(max(16, min(tile) // 11), 46)
    label, small = Lettering(size, texts), Lettering(max(13, round(size * 0.74)), texts)
    title = Lettering(round(size * 1.05), texts)
    gap = max(6, min(tile) // 28)
    widest = max(label.width(row.label) for row in grid.rows)
    notes = [small.width(line) for row in grid.rows for line in row.under.split("\n")]
    gutter = min(max([widest, *notes]), max(150, tile[0])) + 2 * gap
    header = title.line + gap + label.line + gap
    badge = small.line if grid.badges else 0
    return Layout(across, down, picture, gap, gutter, 3 * gap, header, label, small, title, badge)


def _draw_header(pen: Any, grid: Grid, layout: Layout, width: int) -> None:
    left, top = layout.margin, layout.margin
    line = layout.title.wrap(grid.title, width - 2 * layout.margin, 1)[0]
    pen.text((left, top), line, fill=INK, font=layout.title.font)
    base = layout.top(0) - layout.gap
    pen.text((layout.left(0) - 2 * layout.gap, base), "weight", fill=GREY, font=layout.small.font, anchor="rb")
    for column, weight in enumerate(grid.weights):
        text, ink = ("base", GREY) if weight == 0 else (number(weight), INK)
        middle = layout.left(column) + layout.tile[0] // 2
        pen.text((middle, base), text, fill=ink, font=layout.label.font, anchor="mb")
    if len(grid.weights) > 1:
        x = (layout.left(0) + layout.tile[0] + layout.left(1)) // 2
        bottom = layout.top(len(grid.rows)) - layout.gap
        pen.line([(x, layout.top(0)), (x, bottom)], fill=LINE, width=max(1, layout.gap // 6))


def _draw_label(pen: Any, layout: Layout, row: int, label: str, note: str) -> None:
    """The row's name and its note, as a block centred on the row, right-aligned against the pictures."""
    room, tile = layout.gutter - 2 * layout.gap, layout.tile[1]
    names = layout.label.wrap(label, room, max(1, min(4, tile // layout.label.line)))
    left = max(0, (tile - len(names) * layout.label.line) // layout.small.line)
    notes = layout.small.wrap(note, room, left) if note and left else []
    right = layout.margin + room
    y = layout.top(row) + (tile - len(names) * layout.label.line - len(notes) * layout.small.line) // 2
    for line in names:
        pen.text((right, y), line, fill=INK, font=layout.label.font, anchor="ra")
        y += layout.label.line
    for line in notes:
        pen.text((right, y), line, fill=GREY, font=layout.small.font, anchor="ra")
        y += layout.small.line


def _draw_tile(sheet: Image, folder: Path, pictures: Sequence[Picture], layout: Layout, at: tuple[int, int]) -> None:
    from PIL import Image as images

    inner = max(1, layout.gap // 4)
    for place, picture in enumerate(pictures):
        with images.open(folder / picture.file) as opened:
            image = opened.convert("RGB")
        if image.size != layout.picture:
            larger = layout.picture[0] % image.width == 0 and layout.picture[1] % image.height == 0
            image = image.resize(layout.picture, images.Resampling.NEAREST if larger else images.Resampling.LANCZOS)
        down, across = divmod(place, layout.across)
        x = at[0] + across * (layout.picture[0] + inner)
        y = at[1] + down * (layout.picture[1] + inner)
        sheet.paste(image, (x, y))


def _footer(grid: Grid, layout: Layout, width: int) -> list[str]:
    """Prompts, negative prompt and seeds, wrapped to the sheet's width."""
    many = len(grid.prompts) > 1
    shown = grid.prompts[:_MOST_PROMPTS]
    lines = [f"prompt {i}:  {text}" if many else f"prompt:  {text}" for i, text in enumerate(shown, start=1)]
    if len(grid.prompts) > len(shown):
        lines.append(f"and {len(grid.prompts) - len(shown)} more prompts, in grid.json")
    if grid.settings.negative:
        lines.append(f"negative:  {grid.settings.negative}")
    seeds = ", ".join(str(seed) for seed in grid.seeds)
    order = "  (in a cell: prompts down, seeds across)" if many and len(grid.seeds) > 1 else ""
    lines.append(f"seed{'s' if len(grid.seeds) > 1 else ''}:  {seeds}{order}")
    return [line for text in lines for line in layout.small.wrap(text, width, 4)]


def _draw_footer(pen: Any, lines: Sequence[str], layout: Layout, bottom: int, width: int) -> None:
    y = bottom + layout.margin
    pen.line([(layout.margin, y), (width - layout.margin, y)], fill=LINE, width=max(1, layout.gap // 6))
    y += layout.gap
    for line in lines:
        pen.text((layout.margin, y), line, fill=GREY, font=layout.small.font)
        y += layout.small.line
