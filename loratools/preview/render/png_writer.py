"""Pictures are written while others are rendered: compressed on threads."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from loratools.preview.plan.jobs import PictureFile
from loratools.preview.render.host_pixels import HostPixels
from loratools.preview.render.picture_store import PictureStore

_AHEAD = 4  # batches that may wait for a thread; the renderer then waits too, so that memory stays bounded


class PngWriter:
    """A pool of threads that save pictures in a store. Leaving the ``with`` block waits until all are on disk, after an
    error too.

    Compression and disks release Python's global lock, so threads are enough. An error of a thread is raised by the
    next call.
    """

    def __init__(self, store: PictureStore, threads: int = 0) -> None:
        self._store = store
        self._pool = ThreadPoolExecutor(threads or max(1, min(8, (os.cpu_count() or 2) - 1)))
        self._waiting: deque[tuple[list[Future[None]], int]] = deque()

    def put(self, files: Sequence[PictureFile], pictures: HostPixels) -> int:
        """Save ``pictures`` as ``files``; the device may still be working on them.

        Returns:
            How many pictures of this and earlier calls have been saved since the last call.
        """
        futures = [self._pool.submit(self._save, file, pictures, n) for n, file in enumerate(files)]
        self._waiting.append((futures, len(futures)))
        return self.finished(wait=len(self._waiting) > _AHEAD)

    def finished(self, *, wait: bool = False) -> int:
        """How many pictures have been saved since the last call; ``wait`` waits for the oldest batch."""
        count = 0
        while self._waiting and (wait or all(future.done() for future in self._waiting[0][0])):
            futures, size = self._waiting.popleft()
            for future in futures:
                future.result()
            count, wait = count + size, False
        return count

    def drain(self) -> Iterator[int]:
        """Wait for all; as each batch is on disk, how many pictures it has, with those saved since the last call."""
        while self._waiting:
            yield self.finished(wait=True)

    def __enter__(self) -> PngWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True)

    def _save(self, file: PictureFile, pictures: HostPixels, index: int) -> None:
        from PIL import Image

        self._store.put(file, Image.fromarray(pictures.wait()[index]))
