"""All measures of a sheet, known before it is drawn: columns across, rows down, a table for each further value."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from loratools.imaging.lettering import Lettering
from loratools.preview.record.grid import AxisInfo, Grid, Picture

MOST_PIXELS = 80_000_000  # below the size at which Pillow and browsers begin to object
_SMALL = 128  # pictures with a shorter side are enlarged by a whole factor
_WIDE = 1.5  # tables stand side by side while the sheet stays narrower than this many times its height
_LINES = 5  # of a column's heading


@dataclass(frozen=True)
class Heading:
    """A column's or a row's text, what stands under it in small letters, and whether it is the base's."""

    label: str
    under: str = ""
    base: bool = False


@dataclass(frozen=True)
class Table:
    """What a sheet shows where: headings, the titles of its tables, and how many pictures fill a cell."""

    columns: tuple[Heading, ...]
    rows: tuple[Heading, ...]
    parts: tuple[str, ...]
    inner: tuple[int, ...]
    corner: str

    @staticmethod
    def of(grid: Grid) -> Table:
        """The table of a grid: its first axis across, its second down, and those of ``z`` slots in parts."""
        axes = grid.shown
        parts = [axis for axis in axes[2:] if axis.slot]
        titles = [
            " · ".join(f"{axis.name} {grid.called(label)}" for axis, label in zip(parts, labels, strict=True))
            for labels in itertools.product(*(axis.labels for axis in parts))
        ]
        across, down = axes[0].name, axes[1].name if axes[1].kind not in ("adapter", "prompt") else ""
        corner = f"{down} ↓   {across} →" if down and len(axes[1].labels) > 1 else across
        return Table(
            _headings(grid, axes[0]),
            _headings(grid, axes[1]),
            tuple(titles) if parts else ("",),
            tuple(len(axis.labels) for axis in axes[2:] if not axis.slot),
            corner,
        )


@dataclass(frozen=True)
class Layout:
    """All measures in pixels; a tile is one cell: ``across`` x ``down`` pictures of at most ``picture`` each."""

    table: Table
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
    strips: int = 0  # scores that are drawn as strips, one below the other, above the badge
    beside: int = 1  # tables side by side
    origin: tuple[int, int] = (0, 0)  # of what is drawn, in the whole sheet

    @property
    def tile(self) -> tuple[int, int]:
        """Width and height of one cell's pictures, with hairlines between them."""
        return (
            self.across * self.picture[0] + (self.across - 1) * self.inner,
            self.down * self.picture[1] + (self.down - 1) * self.inner,
        )

    @property
    def strip(self) -> int:
        """Height of a score's strip, with the space above it."""
        return max(6, self.gap)

    @property
    def under(self) -> int:
        """Below a cell's pictures: strips of scores, and its badge."""
        return self.strips * self.strip + self.badge

    @property
    def inner(self) -> int:
        """Between the pictures of one cell."""
        return max(1, self.gap // 4)

    @property
    def frame(self) -> int:
        """How far the winner's frame stands out around its picture; at most half of the gap to the next one."""
        return max(3, self.gap // 2)

    @property
    def head(self) -> int:
        """Above a table: its title, where there are several, and the columns' headings."""
        return self.header + (self.title.line + self.gap if len(self.table.parts) > 1 else 0)

    @property
    def block(self) -> tuple[int, int]:
        """Width and height of one table with its headings and gutter."""
        columns, rows = len(self.table.columns), len(self.table.rows)
        return (self.gutter + self._x(columns) - self.gap, self.head + self._y(rows) - self.gap)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the sheet without its footer."""
        blocks_down = math.ceil(len(self.table.parts) / self.beside)
        width, height = self.block
        apart = 4 * self.gap
        return (
            2 * self.margin + self.beside * (width + apart) - apart,
            2 * self.margin + self.title.line + self.gap + blocks_down * (height + apart) - apart,
        )

    def left(self, column: int, part: int = 0) -> int:
        """Where a column of a table begins; the base stands a little apart."""
        return self.corner(part)[0] + self.gutter + self._x(column)

    def top(self, row: int, part: int = 0) -> int:
        """Where a row of a table begins."""
        return self.corner(part)[1] + self.head + self._y(row)

    def corner(self, part: int) -> tuple[int, int]:
        """Where a table begins."""
        down, across = divmod(part, self.beside)
        width, height = self.block
        return (
            self.margin + across * (width + 4 * self.gap) - self.origin[0],
            self.margin + self.title.line + self.gap + down * (height + 4 * self.gap) - self.origin[1],
        )

    def _x(self, column: int) -> int:
        apart = self.gap * 2 if column and self.table.columns[0].base else 0
        return column * (self.tile[0] + self.gap) + apart

    def _y(self, row: int) -> int:
        apart = self.gap * 2 if row and self.table.rows[0].base else 0
        return row * (self.tile[1] + self.under + self.gap) + apart


def arrange(counts: Sequence[int]) -> tuple[int, int]:
    """Pictures (across, down) in a cell that further axes fill: two make a small table, the second across; else they
    come near a square."""
    filled = [count for count in counts if count > 1]
    if len(filled) == 2:
        return filled[1], filled[0]
    count = math.prod(filled)
    across = math.ceil(math.sqrt(count))
    return across, math.ceil(count / across)


def plan_layout(grid: Grid, most: int | None = None) -> Layout:
    """Measures that keep the lettering readable; pictures are reduced where they would fill more than ``most`` pixels
    (:data:`MOST_PIXELS` where None)."""
    most = MOST_PIXELS if most is None else most
    table = Table.of(grid)
    across, down = arrange(table.inner)
    sizes = [grid.settings_of(picture).size for picture in grid.pictures] or [grid.settings.size]
    height, width = max(size[0] for size in sizes), max(size[1] for size in sizes)
    zoom: float = max(1, math.ceil(_SMALL / min(height, width)))
    cells = len(table.rows) * len(table.columns) * len(table.parts)
    pixels = zoom * zoom * height * width * across * down * cells
    if pixels > most:
        zoom *= math.sqrt(most / pixels)
    picture = (max(8, int(width * zoom)), max(8, int(height * zoom)))
    return _with_letters(grid, table, (across, down), picture)


def _with_letters(grid: Grid, table: Table, inside: tuple[int, int], picture: tuple[int, int]) -> Layout:
    tile = (inside[0] * picture[0], inside[1] * picture[1])
    headings = [*table.columns, *table.rows]
    scored = list(grid.scores.values())
    under = [
        *grid.badges.values(),
        *(score.name + score.text for own in scored for score in own),
        *grid.captions,
        *grid.aside,
    ]
    texts = "".join(
        [
            grid.title,
            *grid.prompts,
            grid.settings.negative,
            *table.parts,
            table.corner,
            *under,
            *(f"{heading.label}{heading.under}" for heading in headings),
        ]
    )
    size = min(max(16, min(tile) // 11), 46)
    label, small = Lettering(size, texts), Lettering(max(13, round(size * 0.74)), texts)
    title = Lettering(round(size * 1.05), texts)
    gap = max(6, min(tile) // 28)
    notes = [small.width(line) for row in table.rows for line in row.under.split("\n")]
    widest = max([small.width(table.corner), *(label.width(row.label) for row in table.rows), *notes])
    gutter = min(widest, max(150, tile[0])) + 2 * gap
    header = max(_heading_height(column, label, small, tile[0]) for column in table.columns) + gap
    lines = max([bool(grid.badges), *(len([score for score in own if score.text]) for own in scored)])
    badge = small.line * lines
    strips = len({score.name for own in scored for score in own if score.part is not None})
    layout = Layout(
        table=table,
        across=inside[0],
        down=inside[1],
        picture=picture,
        gap=gap,
        gutter=gutter,
        margin=3 * gap,
        header=header,
        label=label,
        small=small,
        title=title,
        badge=badge,
        strips=strips,
    )
    return replace(layout, beside=_beside(layout))


def _beside(layout: Layout) -> int:
    """How many tables stand side by side, so that the sheet is not much wider than it is high."""
    width, height = layout.block
    parts = len(layout.table.parts)
    return next((n for n in range(parts, 1, -1) if n * width <= _WIDE * height * math.ceil(parts / n)), 1)


def wrapped(heading: Heading, label: Lettering, small: Lettering, width: int) -> tuple[list[str], list[str]]:
    """A column's heading in lines, and the lines under it."""
    under = small.wrap(heading.under, width, _LINES) if heading.under else []
    return label.wrap(heading.label, width, _LINES), under


def _heading_height(heading: Heading, label: Lettering, small: Lettering, width: int) -> int:
    names, under = wrapped(heading, label, small, width)
    return len(names) * label.line + len(under) * small.line


def _headings(grid: Grid, axis: AxisInfo) -> tuple[Heading, ...]:
    rows = {row.label: row for row in grid.rows} if axis.kind == "adapter" else {}
    base = base_index(grid, axis)
    return tuple(
        Heading(grid.called(label), rows[label].under if label in rows else "", n == base)
        for n, label in enumerate(axis.labels)
    )


def base_index(grid: Grid, axis: AxisInfo) -> int | None:
    """Where on ``axis`` the base stands, if it does there."""
    if not grid.axes:
        return axis.labels.index("base") if axis.kind == "weight" and 0 in grid.weights else None
    place = grid.axes.index(axis)
    for picture in grid.pictures:
        if picture.base is not None and picture.base[place] != picture.at[place]:
            return picture.base[place]
    return None


def by_cell(grid: Grid) -> dict[tuple[int, int, int], list[Picture]]:
    """The pictures of every cell by (part, row, column), in the order in which they fill it."""
    axes = grid.shown
    parts = [n for n in range(2, len(axes)) if axes[n].slot]
    order = list(itertools.product(*(range(len(axes[n].labels)) for n in parts)))
    cells: dict[tuple[int, int, int], list[tuple[tuple[int, ...], Picture]]] = {}
    for picture in grid.pictures:
        at = grid.place(picture)
        part = order.index(tuple(at[n] for n in parts))
        inner = tuple(at[n] for n in range(2, len(axes)) if not axes[n].slot)
        cells.setdefault((part, at[1], at[0]), []).append((inner, picture))
    return {place: [picture for _, picture in sorted(own, key=lambda each: each[0])] for place, own in cells.items()}
