"""Figures beside a grid's pictures: read on a thread of their own while pictures come, since models take a while."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from loratools.measures.pictures import open_image
from loratools.preview.record.grid import Grid

if TYPE_CHECKING:
    from PIL.Image import Image

_MOST = 256 << 20  # bytes of pictures that wait in memory; those beyond are read from their files when it is their turn


class GridFigures(Protocol):
    """Reads a grid's pictures one by one, and writes beside them what it read."""

    def add(self, file: str, image: Image) -> None:
        """Read a picture of the grid's folder; one that came before is passed over."""
        ...

    def annotate(self, grid: Grid) -> Grid:
        """``grid`` with the figures of its pictures; those that have not come are read from their files."""
        ...


FiguresOf = Callable[[Path, Grid], GridFigures]  # a grid's folder, and the grid as far as it is known -> its figures


class FiguresThread:
    """Hands pictures, from any thread, to figures on one of its own, so that who draws them need not wait.

    Nothing more is read after the first error, which :meth:`annotate` raises.
    """

    def __init__(self, folder: Path, figures: Sequence[GridFigures]) -> None:
        self._folder, self._figures = folder, figures
        self._pool = ThreadPoolExecutor(1)
        self._lock = threading.Lock()
        self._bytes = 0
        self._error: Exception | None = None

    def add(self, file: str, image: Image) -> None:
        """Have a picture read that lies in the folder as ``file``."""
        if not self._figures:
            return
        size = 4 * image.width * image.height  # as Pillow holds RGB
        with self._lock:
            kept = self._bytes + size <= _MOST
            self._bytes += size if kept else 0
        self._pool.submit(self._read, file, image if kept else None, size)

    def annotate(self, grid: Grid) -> Grid:
        """``grid`` with all figures, once the last picture has been read.

        Raises:
            LoratoolsError: what reading a picture raised.
        """
        self._pool.shutdown(wait=True)
        if self._error is not None:
            raise self._error
        for figures in self._figures:
            grid = figures.annotate(grid)
        return grid

    def close(self) -> None:
        """Stop reading."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _read(self, file: str, image: Image | None, size: int) -> None:
        try:
            if self._error is None:
                shown = open_image(self._folder / file) if image is None else image
                for figures in self._figures:
                    figures.add(file, shown)
        except Exception as error:  # raised where the grid is finished
            self._error = error
        finally:
            if image is not None:
                with self._lock:
                    self._bytes -= size
