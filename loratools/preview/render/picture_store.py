"""Pictures that are already on disk, found by their content key wherever in the grid's folder they lie."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from loratools.base.infotext import read_png, write_png
from loratools.preview.plan.jobs import GridJob, Job, PictureFile

if TYPE_CHECKING:
    from PIL.Image import Image


class PictureWatcher(Protocol):
    """Hears of every picture that is on disk, from whichever thread brought it there or saw it."""

    def made(self, file: PictureFile, image: Image) -> None:
        """A picture was saved just now."""
        ...

    def found(self, file: PictureFile) -> None:
        """A picture is there: of an earlier run, or of another process."""
        ...


class PictureStore:
    """The cells of a grid's folder. A picture counts as there only if it can be read whole and says its key."""

    _watcher: PictureWatcher | None = None

    def __init__(self, folder: Path, watcher: PictureWatcher | None = None) -> None:
        self._watcher = watcher
        self._paths: dict[str, Path] = {}
        for path in sorted((folder / "cells").rglob("*.png")):
            if key := read_png(path)[1].get("key"):
                self._paths.setdefault(str(key), path)

    def lacks(self, files: Iterable[PictureFile]) -> bool:
        """Whether any of these pictures is missing, so that it has to be rendered."""
        return any(file.key not in self._paths for file in files)

    def rescan(self, files: Iterable[PictureFile]) -> None:
        """Look on disk for those of these pictures that other processes may have written meanwhile."""
        for file in files:
            if file.key not in self._paths and file.path.exists() and read_png(file.path)[1].get("key") == file.key:
                self._paths[file.key] = file.path
                self._say_found(file)

    def relocate(self, files: Iterable[PictureFile]) -> None:
        """Move pictures that exist under another name, or with older texts in them, to the paths in ``files``.

        Their pixels stay the same."""
        from PIL import Image

        moves, there = [], []
        for file in files:
            at = self._paths.get(file.key)
            if at is None:
                continue
            there.append(file)
            if at == file.path and read_png(at) == (file.parameters, file.made):
                continue
            with Image.open(at) as image:
                moves.append((file, image.copy()))
        for file, pixels in moves:  # all are read before the first is written: two may change places
            self._save(file, pixels)
        for file in there:
            self._say_found(file)

    def put(self, file: PictureFile, image: Image) -> None:
        """Save a picture with its texts and remember its key."""
        self._save(file, image)
        if self._watcher is not None:
            self._watcher.made(file, image)

    def _save(self, file: PictureFile, image: Image) -> None:
        write_png(image, file.path, file.parameters, file.made)
        self._paths[file.key] = file.path

    def _say_found(self, file: PictureFile) -> None:
        if self._watcher is not None:
            self._watcher.found(file)


class GridPictures:
    """The pictures of a grid's jobs in its store: which are missing, and what each is saved as."""

    def __init__(self, jobs: Iterable[GridJob], store: PictureStore) -> None:
        self._files = {job.key: job.file for job in jobs}
        self.store = store

    def files(self, jobs: Iterable[Job]) -> list[PictureFile]:
        """What these jobs' pictures are saved as."""
        return [self._files[job.key] for job in jobs]

    def lacks(self, jobs: Iterable[Job]) -> bool:
        """Whether any of these pictures is missing."""
        return self.store.lacks(self.files(jobs))

    def rescan(self, jobs: Iterable[Job]) -> None:
        """Look on disk for those of these pictures that other processes may have written meanwhile."""
        self.store.rescan(self.files(jobs))
