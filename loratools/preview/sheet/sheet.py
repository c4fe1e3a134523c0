"""``grid.png``: one labelled sheet, rows down and columns across, the base in front, a table for each further value."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loratools.adapter.parallel import in_order
from loratools.imaging.colours import GREY, INK, LINE, PAPER
from loratools.imaging.fit import fit
from loratools.measures.votes.votes_file import Marks
from loratools.preview.record.grid import Grid, Picture, PictureScore
from loratools.preview.sheet.layout import Layout, by_cell, plan_layout, wrapped

if TYPE_CHECKING:
    from PIL.Image import Image

GOLD = "#e0a526"
STRIPS, STRIP_NAMES = (
    ("#3b6ea5", "#c98b3c", "#5a8f4e", "#9a4f96", "#8c8c8c"),
    ("blue", "ochre", "green", "violet", "grey"),
)
_MOST_PROMPTS = 12

Box = tuple[int, int, int, int]  # left, top, right, bottom
Cells = Mapping[tuple[int, int, int], list[Picture]]  # by (part, row, column)


def sheet_size(grid: Grid, layout: Layout) -> tuple[int, int]:
    """Width and height of the whole sheet in pixels."""
    width, bottom = layout.size
    footer = _footer(grid, layout, width - 2 * layout.margin)
    return width, bottom + (len(footer) * layout.small.line + layout.margin if footer else 0)


def draw_sheet(
    folder: Path, grid: Grid, layout: Layout | None = None, box: Box | None = None, marks: Marks | None = None
) -> Image:
    """The sheet as a picture, or the part of it inside ``box`` (left, top, right, bottom).

    Args:
        folder: where the grid's pictures lie.
        marks: stars and the winner, which get a frame.
    """
    layout = layout or plan_layout(grid)
    sheet, layout = _draw_around(grid, layout, box or (0, 0, *sheet_size(grid, layout)))
    shown = list(_shown(by_cell(grid), sheet, layout))
    tiles = in_order(lambda cell: [read_fitted(folder / own.file, layout.picture) for own in cell[1]], shown)
    for (at, pictures), tile in zip(shown, tiles, strict=True):
        draw_tile(sheet, tile, layout, at)
        _draw_beside(sheet, grid, layout, pictures, at, marks)
    return sheet


def draw_around(grid: Grid, layout: Layout, cells: Cells, box: Box, marks: Marks | None = None) -> Image:
    """What :func:`draw_sheet` draws inside ``box``, without the pictures.

    Args:
        cells: of the grid, by :func:`.layout.by_cell`.
    """
    sheet, layout = _draw_around(grid, layout, box)
    for at, pictures in _shown(cells, sheet, layout):
        _draw_beside(sheet, grid, layout, pictures, at, marks)
    return sheet


def _draw_around(grid: Grid, layout: Layout, box: Box) -> tuple[Image, Layout]:
    """Title, headings, lines and footer inside ``box``, and the layout as seen from its corner.

    Texts that lie above or below it are not even measured: a sheet is drawn in many boxes.
    """
    from PIL import Image as images
    from PIL import ImageDraw

    left, top, right, bottom = box
    room = layout.size[0] - 2 * layout.margin
    layout = replace(layout, origin=(left, top))
    sheet = images.new("RGB", (right - left, bottom - top), PAPER)
    pen = ImageDraw.Draw(sheet)
    if top < layout.margin + 2 * layout.title.line:
        line = layout.title.wrap(grid.title, room, 1)[0]
        pen.text((layout.margin - left, layout.margin - top), line, fill=INK, font=layout.title.font)
    for part in range(len(layout.table.parts)):
        _draw_headings(pen, layout, part, bottom - top)
    if layout.size[1] - layout.gap < bottom:
        _draw_footer(pen, _footer(grid, layout, room), layout, layout.size[0])
    return sheet, layout


def _shown(cells: Cells, sheet: Image, layout: Layout) -> Iterator[tuple[tuple[int, int], list[Picture]]]:
    """Where the cells begin of which something lies on ``sheet``, and their pictures."""
    (width, height), reach = layout.tile, layout.frame
    for (part, row, column), pictures in cells.items():
        x, y = layout.left(column, part), layout.top(row, part)
        if -width - reach < x < sheet.width + reach and -height - layout.under - reach < y < sheet.height + reach:
            yield (x, y), pictures


def _draw_beside(
    sheet: Image, grid: Grid, layout: Layout, pictures: Sequence[Picture], at: tuple[int, int], marks: Marks | None
) -> None:
    """What stands on, around and under a cell's pictures."""
    from PIL import ImageDraw

    pen = ImageDraw.Draw(sheet)
    if marks is not None:
        draw_marks(pen, layout, pictures, at, marks)
    _draw_under(pen, grid, layout, pictures, at)


def draw_marks(pen: Any, layout: Layout, pictures: Sequence[Picture], at: tuple[int, int], marks: Marks) -> None:
    """Stars in a corner, and a frame around the winner."""
    for place, picture in enumerate(pictures):
        x, y = _corner(layout, place, at)
        width, height = layout.picture
        if picture.key == marks.winner:
            thick = layout.frame
            pen.rectangle(
                (x - thick, y - thick, x + width + thick - 1, y + height + thick - 1), outline=GOLD, width=thick
            )
        count, size = marks.stars.get(picture.key, 0), max(10, min(width, height) // 9)
        if count:
            pen.rectangle((x, y + height - size, x + count * size, y + height), fill=INK)
        for n in range(count):
            pen.polygon(_star(x + (n + 0.5) * size, y + height - 0.5 * size, 0.45 * size), fill=GOLD)


def _star(x: float, y: float, radius: float) -> list[tuple[float, float]]:
    angles = [math.pi * (n / 5 - 0.5) for n in range(10)]
    radii = [radius if n % 2 == 0 else radius * 0.42 for n in range(10)]
    return [(x + r * math.cos(a), y + r * math.sin(a)) for a, r in zip(angles, radii, strict=True)]


def _draw_under(pen: Any, grid: Grid, layout: Layout, pictures: Sequence[Picture], at: tuple[int, int]) -> None:
    """Below a cell: a strip for each score that has one, and the badge or the scores' texts."""
    scores = mean_scores([grid.scores.get(picture.key, ()) for picture in pictures])
    y = at[1] + layout.tile[1]
    names = strip_names(grid)
    for score in scores:
        if score.part is None:
            continue
        n = names.index(score.name)
        top = y + (n + 1) * layout.strip - layout.strip // 2
        low = top + max(2, layout.strip // 2 - 1)
        pen.rectangle((at[0], top, at[0] + layout.tile[0] - 1, low), fill=LINE)
        pen.rectangle((at[0], top, at[0] + round((layout.tile[0] - 1) * score.part), low), fill=STRIPS[n % len(STRIPS)])
    badge = grid.badges.get((pictures[0].row, pictures[0].weight))
    texts = [badge] if badge else [score.text for score in scores if score.text]
    top = y + layout.under - layout.badge + layout.small.line // 2
    for n, text in enumerate(texts):
        shown = layout.small.wrap(text, layout.tile[0], 1)[0]
        at_line = (at[0] + layout.tile[0] // 2, top + n * layout.small.line)
        pen.text(at_line, shown, fill=GREY, font=layout.small.font, anchor="mm")


def strip_names(grid: Grid) -> list[str]:
    """The scores that are drawn as strips, from the top down."""
    names = dict.fromkeys(score.name for own in grid.scores.values() for score in own if score.part is not None)
    return list(names)


def mean_scores(scores: Sequence[Sequence[PictureScore]]) -> list[PictureScore]:
    """One score for each name: the only one as it is, of several the mean of their parts."""
    by_name: dict[str, list[PictureScore]] = {}
    for own in scores:
        for score in own:
            by_name.setdefault(score.name, []).append(score)
    means = []
    for name, same in by_name.items():
        parts = [score.part for score in same if score.part is not None]
        mean = sum(parts) / len(parts) if parts else None
        text = same[0].text if len(same) == 1 else (_short(name, mean) if mean is not None else "")
        means.append(PictureScore(name, text, mean))
    return means


def _short(name: str, mean: float) -> str:
    return f"{name.partition(' (')[0]} {mean:.2f}"


def _draw_headings(pen: Any, layout: Layout, part: int, height: int) -> None:
    """A table's title, the columns' headings on one baseline, the rows' labels, and lines that set the base apart.

    Args:
        height: of the picture that ``pen`` draws on; what lies above or below it is left out.
    """
    draw_lines(pen, layout, part)
    if -layout.block[1] < layout.corner(part)[1] < height:
        if layout.top(0, part) > 0:
            _draw_columns(pen, layout, part)
        for row, heading in enumerate(layout.table.rows):
            reach = layout.tile[1] + layout.label.line
            if -reach < layout.top(row, part) < height + reach:
                ink = GREY if heading.base else INK
                _draw_label(pen, layout, (row, part), heading.label, heading.under, ink)


def _draw_columns(pen: Any, layout: Layout, part: int) -> None:
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


def draw_lines(pen: Any, layout: Layout, part: int) -> None:
    """The lines that set the base apart."""
    table, thin = layout.table, max(1, layout.gap // 6)
    right = layout.left(len(table.columns), part) - layout.gap
    bottom = layout.top(len(table.rows), part) - layout.gap
    if len(table.columns) > 1 and table.columns[0].base:
        x = (layout.left(0, part) + layout.tile[0] + layout.left(1, part)) // 2
        pen.line([(x, layout.top(0, part)), (x, bottom)], fill=LINE, width=thin)
    if len(table.rows) > 1 and table.rows[0].base:
        y = (layout.top(0, part) + layout.tile[1] + layout.under + layout.top(1, part)) // 2
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


def read_fitted(path: Path, room: tuple[int, int]) -> Image:
    """The picture at ``path`` as large as fits ``room``, (width, height) in pixels."""
    from PIL import Image as images

    with images.open(path) as opened:
        return fit(opened.convert("RGB"), room)


def draw_tile(sheet: Image, tile: Sequence[Image], layout: Layout, at: tuple[int, int]) -> None:
    """Put a cell's pictures, each as large as fits its place, on ``sheet``."""
    for place, image in enumerate(tile):
        x, y = _corner(layout, place, at)
        sheet.paste(image, (x + (layout.picture[0] - image.width) // 2, y + (layout.picture[1] - image.height) // 2))


def _corner(layout: Layout, place: int, at: tuple[int, int]) -> tuple[int, int]:
    """Where the ``place``-th picture of a cell at ``at`` begins."""
    down, across = divmod(place, layout.across)
    return (at[0] + across * (layout.picture[0] + layout.inner), at[1] + down * (layout.picture[1] + layout.inner))


def _footer(grid: Grid, layout: Layout, width: int) -> list[str]:
    """Rows, prompts, negative prompt and seeds that no heading says, wrapped to the sheet's width."""
    said = {axis.kind for axis in grid.shown if axis.slot}
    many = len(grid.prompts) > 1
    shown = [] if "prompt" in said or (many and "s/r" in said) else grid.prompts[:_MOST_PROMPTS]
    lines = [*grid.captions, *grid.aside]
    lines += [f"prompt {i}:  {text}" if many else f"prompt:  {text}" for i, text in enumerate(shown, start=1)]
    if shown and len(grid.prompts) > len(shown):
        lines.append(f"and {len(grid.prompts) - len(shown)} more prompts, in grid.json")
    if grid.settings.negative and "negative" not in said:
        lines.append(f"negative:  {grid.settings.negative}")
    if "seed" not in said:
        seeds = ", ".join(str(seed) for seed in grid.seeds)
        order = "  (in a cell: prompts down, seeds across)" if many and shown and len(grid.seeds) > 1 else ""
        lines.append(f"seed{'s' if len(grid.seeds) > 1 else ''}:  {seeds}{order}")
    if strips := strip_names(grid):
        colours = [f"{name} {STRIP_NAMES[n % len(STRIPS)]}" for n, name in enumerate(strips)]
        lines.append(f"strips under a cell, from 0 to the right end:  {', '.join(colours)}")
    return [line for text in lines for line in layout.small.wrap(text, width, 4)]


def _draw_footer(pen: Any, lines: Sequence[str], layout: Layout, width: int) -> None:
    left, y = layout.margin - layout.origin[0], layout.size[1] - layout.origin[1]
    pen.line([(left, y), (width - layout.margin - layout.origin[0], y)], fill=LINE, width=max(1, layout.gap // 6))
    y += layout.gap
    for line in lines:
        pen.text((left, y), line, fill=GREY, font=layout.small.font)
        y += layout.small.line
