"""``grid.html`` with its pictures inside, written while they come: at the end only what is told of them is left."""

from __future__ import annotations

import contextlib
import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from loratools.errors import FileError
from loratools.files import replacing, sweep
from loratools.preview.page.view import view_grid
from loratools.preview.page.write import closing, opening, source
from loratools.preview.record.grid import Grid

_SYNCED = 8 << 20  # bytes after which the disk is given what was written: else all of it would be waited for at the end


_HELD = 96 << 20  # bytes of pictures that wait for their turn; more are read again when it comes


class _GivenUpError(Exception):
    """The temporary file goes."""


class PageStream:
    """A page that carries its pictures, beside the one that is there until :meth:`finish` puts it in its place.

    Pictures may come from any thread in any order; they are written in the page's own order, so that its bytes do not
    depend on it. It gives up, and takes its file away, where the pictures are larger than wanted or the disk is full:
    whoever finishes the grid then writes the page as without it.

    Args:
        folder: of the grid; no other process may be writing its page.
        grid: as far as it is known; its title and its pictures' files are final.
        most: bytes of pictures that a page may carry; None for any number.
    """

    def __init__(self, folder: Path, grid: Grid, most: int | None) -> None:
        self._folder, self._most = folder, most
        view = view_grid(grid)
        self._title, self._files = view.title, view.files
        self._places = {file: n for n, file in enumerate(self._files)}
        self._early: dict[int, tuple[bytes, ...] | None] = {}  # pictures that come before their turn
        self._next = self._size = self._held = self._unsynced = 0
        self._lock = threading.Lock()
        self._disk = ThreadPoolExecutor(1)
        self._syncing: Future[None] | None = None
        sweep(folder / "grid.html")
        self._stack = contextlib.ExitStack()
        self._stream = self._stack.enter_context(replacing(folder / "grid.html")).open("wb")
        self._stack.callback(self._stream.close)
        self._stream.write(opening(self._title))
        self._open = True

    def add(self, file: str) -> None:
        """Take in a picture that was saved; one that the page does not show, or has already, is passed over."""
        place = self._places.get(file)
        if place is None or not self._open:
            return
        try:
            pieces = source(place, file, self._folder)
            with self._lock:
                if self._open and place >= self._next and place not in self._early:
                    self._take(place, pieces)
        except (FileError, OSError):
            self.close()

    def _take(self, place: int, pieces: tuple[bytes, ...]) -> None:
        length = sum(map(len, pieces))
        held = place == self._next or self._held + length <= _HELD
        self._early[place] = pieces if held else None
        self._held += length if held else 0
        self._size += len(pieces[-2]) * 3 // 4  # base64
        if self._most is not None and self._size > self._most:
            self._give_up()
            return
        while self._next in self._early:
            own = self._early.pop(self._next)
            self._held -= sum(map(len, own or ()))
            own = own or source(self._next, self._files[self._next], self._folder)
            self._stream.writelines(own)
            self._unsynced += sum(map(len, own))
            self._next += 1
        if self._unsynced > _SYNCED and (self._syncing is None or self._syncing.done()):
            self._stream.flush()
            self._syncing, self._unsynced = self._disk.submit(os.fsync, self._stream.fileno()), 0

    def finish(self, grid: Grid) -> bool:
        """Write what is left and put the page in its place; False where it is another grid's, or was given up.

        Raises:
            FileError: if a picture is missing.
        """
        view = view_grid(grid)
        if not self._open or (view.title, view.files) != (self._title, self._files):
            self.close()
            return False
        for file in self._files[self._next :]:
            self.add(file)
        if not self._open:
            return False
        self._disk.shutdown(wait=True)
        self._stream.write(closing(view))
        self._open = False
        self._stack.close()
        return True

    def close(self) -> None:
        """Give up, unless it is finished."""
        with self._lock:
            self._give_up()

    def _give_up(self) -> None:
        if not self._open:
            return
        self._open = False
        self._early.clear()
        self._disk.shutdown(wait=True)
        with contextlib.suppress(_GivenUpError), self._stack:
            raise _GivenUpError
