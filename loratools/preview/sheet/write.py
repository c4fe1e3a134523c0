"""Files that show a grid: ``grid.png`` and ``grid.html`` always, and the sheet in other formats and at full size."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from loratools.files import replacing
from loratools.measures.votes.votes_file import Marks, read_marks
from loratools.preview.page import write_page
from loratools.preview.page.stream import PageStream
from loratools.preview.record.folder import write_grid
from loratools.preview.record.grid import Grid
from loratools.preview.request.options import SheetOptions
from loratools.preview.sheet.canvas import SheetCanvas, write_whole
from loratools.preview.sheet.layout import plan_layout
from loratools.preview.sheet.sheet import Box, draw_sheet, sheet_size

if TYPE_CHECKING:
    from PIL.Image import Image

_MOST = 200_000_000  # pixels in one file; the WebUI refuses more as well
_SIDES = {"png": 65_500, "jpg": 65_500, "webp": 16_383}  # the formats' own limits, and what viewers take
VOTES = "votes.json"  # what a page exports; its stars and winner are marked
_CARRIED = 64 << 20  # bytes of pictures in a page: it opens in about a second, and can still be sent


def check_votes(folder: Path) -> None:
    """Raise what :func:`draw` would raise for the votes in ``folder``, before anything is rendered.

    Raises:
        FormatError: if ``votes.json`` cannot be understood.
    """
    read_marks(folder / VOTES)


def embeds(folder: Path, grid: Grid, options: SheetOptions) -> bool:
    """Whether the page of the grid in ``folder`` carries its pictures."""
    if options.embed is not None:
        return options.embed
    files = {folder / picture.file for picture in grid.pictures}
    return sum(path.stat().st_size for path in files if path.is_file()) <= _CARRIED


def worded(grid: Grid, options: SheetOptions) -> Grid:
    """``grid`` with the labels and captions of ``options``; it keeps its own where those are empty."""
    named = grid.relabelled(options.labels) if options.labels else grid
    return replace(named, captions=options.captions) if options.captions else named


def begin_page(folder: Path, grid: Grid, options: SheetOptions) -> PageStream | None:
    """The page of a grid whose pictures are still to come, if it may carry them."""
    if options.embed is False:
        return None
    return PageStream(folder, grid, None if options.embed else _CARRIED)


def draw(
    folder: Path,
    grid: Grid,
    options: SheetOptions | None = None,
    canvas: SheetCanvas | None = None,
    begun: PageStream | None = None,
) -> None:
    """Write the record, the sheet and the page of ``grid``, whose pictures lie in ``folder``.

    Args:
        canvas: ``grid.png`` as far as it was drawn while pictures came; the others are read from their files.
        begun: ``grid.html`` as far as it was written meanwhile.
    Raises:
        FormatError: if ``votes.json`` in the folder, whose winners are marked, cannot be understood.
    """
    options = options or SheetOptions()
    marks = read_marks(folder / VOTES)
    write_grid(folder, grid)
    with ThreadPoolExecutor(1) as pool:  # both wait for the disk at their ends
        page = pool.submit(_write_page, folder, grid, options, begun)
        _draw_sheet_file(folder, grid, marks, canvas)
        for path, box, full in list(_files(folder, grid, options))[1:]:
            _draw_other_file(
                path, draw_sheet(folder, grid, plan_layout(grid, sys.maxsize if full else None), box, marks)
            )
        page.result()


def _write_page(folder: Path, grid: Grid, options: SheetOptions, begun: PageStream | None) -> None:
    carries = embeds(folder, grid, options)
    if begun is None or not carries or not begun.finish(grid):
        write_page(folder, grid, embed=carries)


def _draw_sheet_file(folder: Path, grid: Grid, marks: Marks, canvas: SheetCanvas | None) -> None:
    """``grid.png``, from ``canvas`` if it still fits: votes or the pictures' places may have changed meanwhile."""
    path = folder / "grid.png"
    for drawn in (canvas, SheetCanvas(grid, marks)):
        if drawn is not None and drawn.marks == marks:
            drawn.read_missing(folder)
            if drawn.write(path, grid):
                return
    write_whole(path, draw_sheet(folder, grid, marks=marks))


def _draw_other_file(path: Path, image: Image) -> None:
    match path.suffix:
        case ".png":
            write_whole(path, image)
        case ".webp":
            with replacing(path) as part:
                image.save(part, format="WEBP", quality=90)
        case _:
            with replacing(path) as part:
                image.save(part, format="JPEG", quality=92)


def announce(folder: Path, grid: Grid, options: SheetOptions, say: Callable[[str], None]) -> None:
    """Say before anything is rendered how large the sheet will be, and whether pictures are reduced on it."""
    small, whole = plan_layout(grid), plan_layout(grid, sys.maxsize)
    width, height = sheet_size(grid, small)
    reduced = (
        f", pictures at {100 * small.picture[0] / whole.picture[0]:.0f} %" if small.picture < whole.picture else ""
    )
    say(f"grid.png: {width} x {height} pixels{reduced}")
    for path, box, _ in list(_files(folder, grid, options))[1:]:
        say(f"{path.name}: {box[2] - box[0]} x {box[3] - box[1]} pixels")


def _files(folder: Path, grid: Grid, options: SheetOptions) -> Iterator[tuple[Path, Box, bool]]:
    """Every file of the sheet, the part of the sheet that it shows, and whether that is the unreduced one."""
    width, height = sheet_size(grid, plan_layout(grid))
    yield folder / "grid.png", (0, 0, width, height), False
    for name in options.formats:
        if options.full:
            width, height = sheet_size(grid, plan_layout(grid, sys.maxsize))
        boxes = cut(width, height, _SIDES[name])
        if len(boxes) == 1 and name == "png" and not options.full:
            continue
        for place, box in boxes.items():
            stem = "grid-full" if name == "png" and len(boxes) == 1 else "-".join(["grid", *place])
            yield folder / f"{stem}.{name}", box, options.full


def cut(width: int, height: int, side: int) -> dict[tuple[str, ...], Box]:
    """A sheet in as few files as keep each below 200 megapixels and ``side``, by row and column from 1; one has no
    place of its own."""
    down, across = -(-height // side), -(-width // side)
    while -(-width // across) * -(-height // down) > _MOST:
        if width / across >= height / down:
            across += 1
        else:
            down += 1
    if down == across == 1:
        return {(): (0, 0, width, height)}
    xs = [width * n // across for n in range(across + 1)]
    ys = [height * n // down for n in range(down + 1)]
    return {
        (str(row), str(column)): (left, top, right, bottom)
        for row, (top, bottom) in enumerate(itertools.pairwise(ys), start=1)
        for column, (left, right) in enumerate(itertools.pairwise(xs), start=1)
    }
