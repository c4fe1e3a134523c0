"""What is made of a grid's pictures while they come: their places on the sheet and page, the 0.9 test, and further
figures."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from loratools.measures.votes.votes_file import read_marks
from loratools.preview.judge.figures import FiguresOf, FiguresThread
from loratools.preview.judge.grid_verdicts import GridVerdicts, with_verdicts
from loratools.preview.plan.jobs import PictureFile
from loratools.preview.record.grid import Grid
from loratools.preview.request.options import SheetOptions
from loratools.preview.sheet.canvas import SheetCanvas
from loratools.preview.sheet.write import VOTES, begin_page, draw

if TYPE_CHECKING:
    from PIL.Image import Image


class GridDrawing:
    """Draws a grid whose pictures are being rendered; a :class:`~.render.picture_store.PictureWatcher`.

    Pictures come on the threads that save them; those that are there already are read on threads of its own. What has
    not come when the grid is finished is read then, so that nothing depends on having heard of a picture.

    Args:
        grid: as far as it is known before its pictures are.
        figures: what is read from the pictures beside the 0.9 test.
    """

    def __init__(self, folder: Path, grid: Grid, options: SheetOptions, figures: Sequence[FiguresOf] = ()) -> None:
        self._folder, self._options = folder, options
        self._canvas = SheetCanvas(grid, read_marks(folder / VOTES))
        self._verdicts = GridVerdicts(folder, grid)
        self._figures = FiguresThread(folder, [made(folder, grid) for made in figures])
        self._page = begin_page(folder, grid, options)
        self._pool = ThreadPoolExecutor(max(1, min(8, (os.cpu_count() or 2) - 1)))

    def made(self, file: PictureFile, image: Image) -> None:
        """Draw and measure a picture that was saved just now."""
        name = file.path.relative_to(self._folder).as_posix()
        self._figures.add(name, image)
        self._canvas.add(name, image)
        self._verdicts.add(name, image)
        if self._page is not None:
            self._page.add(name)

    def found(self, file: PictureFile) -> None:
        """Have a picture read, drawn and measured that was there before, or that another process made."""
        self._pool.submit(self._read, file)

    def finish(self, grid: Grid) -> Grid:
        """Judge the rows of the whole grid, and write its record, sheet and page; returns it with verdicts and figures.

        Raises:
            LoratoolsError: what reading figures raised; all is written without them then.
        """
        self._pool.shutdown(wait=True)
        grid = with_verdicts(self._folder, grid, self._verdicts)
        try:
            grid = self._figures.annotate(grid)
        except Exception:
            draw(self._folder, grid, self._options, self._canvas, self._page)
            raise
        draw(self._folder, grid, self._options, self._canvas, self._page)
        return grid

    def close(self) -> None:
        """Stop reading, and take away what is not finished."""
        self._figures.close()
        self._pool.shutdown(wait=True, cancel_futures=True)
        if self._page is not None:
            self._page.close()

    def _read(self, file: PictureFile) -> None:
        from PIL import Image as images

        try:
            with images.open(file.path) as opened:
                image = opened.convert("RGB")
        except OSError:  # it is read again at the end, where the same error has somebody to be told to
            return
        self.made(file, image)
