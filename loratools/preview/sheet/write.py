"""Files that show a grid: ``grid.png`` and ``grid.html`` always, and the sheet in other formats and at full size."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from loratools.errors import GridError
from loratools.files import replacing
from loratools.preview.page import write_page
from loratools.preview.record.grid import Grid, write_grid
from loratools.preview.record.votes import read_marks
from loratools.preview.sheet.layout import plan_layout
from loratools.preview.sheet.sheet import Box, draw_sheet, sheet_size

_MOST = 200_000_000  # pixels in one file; the WebUI refuses more as well
_SIDES = {"png": 65_500, "jpg": 65_500, "webp": 16_383}  # the formats' own limits, and what viewers take
FORMATS = tuple(_SIDES)
_CARRIED = 64 << 20  # bytes of pictures in a page: it opens in about a second, and can still be sent
_FAST = {"compress_level": 1, "compress_type": 3}  # zlib's run lengths: a third of the time for about the same bytes


@dataclass(frozen=True)
class SheetOptions:
    """What is drawn beside ``grid.png`` and ``grid.html``, and with which words.

    Args:
        formats: further files of the sheet: ``webp``, ``jpg``, or ``png`` (of use with ``full``).
        full: these show pictures unreduced; a sheet of more than 200 megapixels is cut into several files.
        embed: the page carries its pictures; where it is None, as long as they are no more than 64 MiB together.
        labels: value -> what it is called; captions: lines under the sheet.
    """

    formats: tuple[str, ...] = ()
    full: bool = False
    embed: bool | None = None
    labels: dict[str, str] = field(default_factory=dict)
    captions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in self.formats:
            if name not in FORMATS:
                raise GridError(f"'{name}' is no format for a sheet; use {', '.join(FORMATS)}")

    def check(self, folder: Path) -> None:
        """Raise before anything is rendered what :func:`draw` would raise for the votes in ``folder``.

        Raises:
            FormatError: if ``votes.json`` cannot be understood.
        """
        read_marks(folder / "votes.json")

    def embeds(self, folder: Path, grid: Grid) -> bool:
        """Whether the page of a grid in ``folder`` carries its pictures."""
        if self.embed is not None:
            return self.embed
        files = {folder / picture.file for picture in grid.pictures}
        return sum(path.stat().st_size for path in files if path.is_file()) <= _CARRIED

    def worded(self, grid: Grid) -> Grid:
        """``grid`` with these labels and captions; without any it keeps its own."""
        found = grid.relabelled(self.labels) if self.labels else grid
        return replace(found, captions=self.captions) if self.captions else found


def draw(folder: Path, grid: Grid, drawing: SheetOptions | None = None) -> None:
    """Write the record, the sheet and the page of ``grid``, whose pictures lie in ``folder``.

    Raises:
        FormatError: if ``votes.json`` in the folder, whose winners are marked, cannot be understood.
    """
    told = drawing or SheetOptions()
    marks = read_marks(folder / "votes.json")
    write_grid(folder, grid)
    for path, box, full in _files(folder, grid, told):
        image = draw_sheet(folder, grid, plan_layout(grid, sys.maxsize if full else None), box, marks)
        with replacing(path) as part:
            match path.suffix:
                case ".png":
                    image.save(part, format="PNG", **_FAST)
                case ".webp":
                    image.save(part, format="WEBP", quality=90)
                case _:
                    image.save(part, format="JPEG", quality=92)
    write_page(folder, grid, embed=told.embeds(folder, grid))


def announce(folder: Path, grid: Grid, drawing: SheetOptions, say: Callable[[str], None]) -> None:
    """Say before anything is rendered how large the sheet will be, and whether pictures are reduced on it."""
    small, whole = plan_layout(grid), plan_layout(grid, sys.maxsize)
    width, height = sheet_size(grid, small)
    reduced = (
        f", pictures at {100 * small.picture[0] / whole.picture[0]:.0f} %" if small.picture < whole.picture else ""
    )
    say(f"grid.png: {width} x {height} pixels{reduced}")
    for path, box, _ in list(_files(folder, grid, drawing))[1:]:
        say(f"{path.name}: {box[2] - box[0]} x {box[3] - box[1]} pixels")


def _files(folder: Path, grid: Grid, drawing: SheetOptions) -> Iterator[tuple[Path, Box, bool]]:
    """Every file of the sheet, the part of the sheet that it shows, and whether that is the unreduced one."""
    width, height = sheet_size(grid, plan_layout(grid))
    yield folder / "grid.png", (0, 0, width, height), False
    for name in drawing.formats:
        if drawing.full:
            width, height = sheet_size(grid, plan_layout(grid, sys.maxsize))
        boxes = cut(width, height, _SIDES[name])
        if len(boxes) == 1 and name == "png" and not drawing.full:
            continue
        for place, box in boxes.items():
            stem = "grid-full" if name == "png" and len(boxes) == 1 else "-".join(["grid", *place])
            yield folder / f"{stem}.{name}", box, drawing.full


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
