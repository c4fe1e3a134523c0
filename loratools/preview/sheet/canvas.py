"""``grid.png`` while its pictures are being made: each goes into its part of the sheet, which is deflated at once.

What surrounds the pictures (headings, what the 0.9 test says, scores) is drawn at the end, when all of it is known. The
scanlines of the finished file are then put together from both: see :mod:`loratools.imaging.png`.
"""

from __future__ import annotations

import itertools
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from loratools.adapter.parallel import in_order
from loratools.imaging.colours import PAPER
from loratools.imaging.fit import fit
from loratools.imaging.png import Part, Pixels, deflate, write_png
from loratools.measures.votes.votes_file import Marks
from loratools.preview.record.grid import Grid
from loratools.preview.sheet.layout import Layout, by_cell, plan_layout
from loratools.preview.sheet.sheet import Box, Cells, draw_around, draw_lines, draw_marks, draw_tile, sheet_size

if TYPE_CHECKING:
    from PIL.Image import Image

_WIDE = 1536  # pixels across of a part, at least, where its row has as many: shorter scanlines deflate worse
_SLAB = 4_000_000  # pixels of a picture that a thread deflates at once


class Stretch(NamedTuple):
    """Neighbouring cells of one row: ``first`` to before ``end``."""

    part: int
    row: int
    first: int
    end: int


class _Band(NamedTuple):
    """Scanlines of the sheet: through the pictures of a row of ``parts``, or, without, between two rows."""

    top: int
    bottom: int
    parts: tuple[int, ...] = ()
    row: int = 0


class SheetCanvas:
    """A sheet whose pictures come one by one, from any thread.

    Pictures are held only until their neighbours in the row have come too; what is kept then is the deflated part.

    Args:
        grid: as far as it is known: what its pictures are, and where they stand. Texts beside them may still change.
        marks: stars and the winner.
    """

    def __init__(self, grid: Grid, marks: Marks | None = None) -> None:
        self._layout, self.marks = plan_layout(grid), marks
        self._cells = by_cell(grid)
        self._stretches = _stretches(self._layout)
        self._parts: dict[Stretch, Part] = {}
        self._tiles: dict[str, Image] = {}
        self._shown_in: dict[str, list[Stretch]] = defaultdict(list)  # a file -> the parts that lack it or are not made
        self._lacking: dict[Stretch, set[str]] = {}
        for own in (own for row in self._stretches.values() for own in row):
            self._lacking[own] = set(self._files(own))
            for file in self._lacking[own]:
                self._shown_in[file].append(own)
        self._waiting = set(self._shown_in)
        self._lock = threading.Lock()

    def add(self, file: str, image: Image) -> None:
        """Put a picture on the sheet; one that it does not show, or has already, is passed over."""
        if file not in self._waiting:
            return
        fitted = fit(image.convert("RGB"), self._layout.picture)
        with self._lock:
            if file not in self._waiting:
                return
            self._waiting.remove(file)
            self._tiles[file] = fitted
            complete = []
            for own in self._shown_in[file]:
                self._lacking[own].remove(file)
                if not self._lacking[own]:
                    complete.append(own)
        for own in complete:
            self._make(own)

    def read_missing(self, folder: Path) -> None:
        """Put all pictures that have not come on the sheet, from their files below ``folder``."""
        from PIL import Image as images

        def read(file: str) -> None:
            with images.open(folder / file) as opened:
                self.add(file, opened)

        order = dict.fromkeys(file for row in self._stretches.values() for own in row for file in self._files(own))
        for _ in in_order(read, [file for file in order if file in self._waiting]):
            pass

    def write(self, path: Path, grid: Grid) -> bool:
        """Write the sheet of ``grid`` to the PNG ``path``, whole or not at all, once all pictures have come.

        Args:
            grid: the one that the canvas was made for, with whatever is to stand beside its pictures.
        Returns:
            False, and nothing is written, if its pictures stand otherwise than on this canvas.
        """
        layout = plan_layout(grid)
        cells = by_cell(grid)
        if _measures(layout) != _measures(self._layout) or _files(cells) != _files(self._cells):
            return False
        width, height = sheet_size(grid, layout)
        for own, lacking in self._lacking.items():
            if own not in self._parts and not lacking:
                self._make(own)  # places without pictures

        def around(left: int, right: int, band: _Band) -> Pixels:
            box = (left, band.top, right, band.bottom)
            return np.asarray(draw_around(grid, layout, cells, box, self.marks))

        made = list(in_order(lambda band: self._assemble(band, width, layout, around), _bands(layout, height)))
        bands = [band for band in made if band is not None]
        if len(bands) < len(made):
            return False
        write_png(path, (width, height), bands)
        return True

    def _assemble(
        self, band: _Band, width: int, layout: Layout, around: Callable[[int, int, _Band], Pixels]
    ) -> list[Part] | None:
        """The parts of a band from left to right; None where a picture's part was deflated after other pixels.

        Args:
            around: draws the pixels from ``left`` to ``right`` of a band that has no pictures there.
        """
        parts: list[Part] = []
        x = 0
        for part in band.parts:
            for own in self._stretches[part, band.row]:
                left, right = _across(own, layout)
                if left > x:
                    parts.append(_deflate(around(x, left, band), parts))
                if not self._parts[own].follows(parts[-1]):
                    return None
                parts.append(self._parts[own])
                x = right
        if x < width:
            parts.append(_deflate(around(x, width, band), parts))
        return parts

    def _make(self, own: Stretch) -> None:
        """Draw and deflate a part all of whose pictures have come, and let go of those that no other part waits for."""
        from PIL import Image as images
        from PIL import ImageDraw

        left, right = _across(own, self._layout)
        top, bottom = _down(own.part, own.row, self._layout)
        # a column more on the left, which the first pixels are deflated after
        layout = replace(self._layout, origin=(left - 1, top))
        sheet = images.new("RGB", (right - left + 1, bottom - top), PAPER)
        pen = ImageDraw.Draw(sheet)
        draw_lines(pen, layout, own.part)
        for column in range(max(0, own.first - 1), own.end):
            pictures = self._cells.get((own.part, own.row, column), [])
            at = layout.left(column, own.part), layout.top(own.row, own.part)
            if column >= own.first:
                draw_tile(sheet, [self._tiles[picture.file] for picture in pictures], layout, at)
            if self.marks is not None and pictures:
                draw_marks(pen, layout, pictures, at, self.marks)
        pixels = np.asarray(sheet)
        self._parts[own] = deflate(np.ascontiguousarray(pixels[:, 1:]), pixels[:, 0])
        with self._lock:
            for file in set(self._files(own)):
                self._shown_in[file].remove(own)
                if not self._shown_in[file]:
                    del self._tiles[file]

    def _files(self, own: Stretch) -> list[str]:
        columns = range(own.first, own.end)
        return [picture.file for column in columns for picture in self._cells.get((own.part, own.row, column), [])]


def _stretches(layout: Layout) -> dict[tuple[int, int], list[Stretch]]:
    """How each row of each table is cut into parts, by (table, row)."""
    columns, together = len(layout.table.columns), -(-_WIDE // layout.tile[0])
    count = max(1, columns // together)
    cuts = [columns * n // count for n in range(count + 1)]
    return {
        (part, row): [Stretch(part, row, first, end) for first, end in itertools.pairwise(cuts)]
        for part in range(len(layout.table.parts))
        for row in range(len(layout.table.rows))
    }


def _across(own: Stretch, layout: Layout) -> tuple[int, int]:
    """Where a part begins and ends: frames of its pictures lie inside."""
    columns = len(layout.table.columns)
    right = layout.left(own.end, own.part)
    return (
        layout.left(own.first, own.part) - layout.frame,
        right - layout.frame if own.end < columns else right - layout.gap + layout.frame,
    )


def _down(part: int, row: int, layout: Layout) -> tuple[int, int]:
    """The scanlines of a row's pictures, with the upper edge of a frame; its lower edge is among those below."""
    top = layout.top(row, part)
    return top - layout.frame, top + layout.tile[1]


def _bands(layout: Layout, height: int) -> Iterator[_Band]:
    """All scanlines of a sheet, from the top down."""
    parts, at = range(len(layout.table.parts)), 0
    for first in range(0, len(parts), layout.beside):
        for row in range(len(layout.table.rows)):
            top, bottom = _down(first, row, layout)
            yield _Band(at, top)
            yield _Band(top, bottom, tuple(parts[first : first + layout.beside]), row)
            at = bottom
    if at < height:
        yield _Band(at, height)


def _deflate(pixels: Pixels, parts: Sequence[Part]) -> Part:
    """Pixels that follow the last of ``parts``, or begin the scanlines."""
    return deflate(np.ascontiguousarray(pixels), parts[-1].right if parts else None)


def _measures(layout: Layout) -> tuple[object, ...]:
    """All that the parts with pictures depend on."""
    columns, rows = layout.table.columns, layout.table.rows
    return (
        (layout.across, layout.down, layout.picture, layout.gap),
        [heading.base for heading in columns],
        [heading.base for heading in rows],
        len(layout.table.parts),
    )


def _files(cells: Cells) -> dict[tuple[int, int, int], list[str]]:
    return {place: [picture.file for picture in own] for place, own in cells.items()}


def write_whole(path: Path, image: Image) -> None:
    """Write a picture to the PNG ``path``, whole or not at all, with every core."""
    strip = max(1, _SLAB // image.width)
    boxes: list[Box] = [(0, top, image.width, min(image.height, top + strip)) for top in range(0, image.height, strip)]
    bands = in_order(lambda box: [deflate(np.asarray(image.crop(box)))], boxes)
    write_png(path, image.size, bands)
