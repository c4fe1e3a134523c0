"""Pictures that are already on disk, found by their content key wherever in the grid's folder they lie."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from loratools.base.infotext import read_png, write_png
from loratools.preview.plan.jobs import GridJob, Job, PictureFile

if TYPE_CHECKING:
    from PIL.Image import Image


class PictureStore:
    """The cells of a grid's folder. A picture counts as there only if it can be read whole and says its key."""

    def __init__(self, folder: Path) -> None:
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

    def relocate(self, files: Iterable[PictureFile]) -> None:
        """Move pictures that exist under another name, or with older texts in them, to the paths in ``files``.

        Their pixels stay the same."""
        from PIL import Image

        moves = []
        for file in files:
            at = self._paths.get(file.key)
            if at is None or (at == file.path and read_png(at) == (file.parameters, file.made)):
                continue
            with Image.open(at) as image:
                moves.append((file, image.copy()))
        for file, pixels in moves:  # all are read before the first is written: two may change places
            self.put(file, pixels)

    def put(self, file: PictureFile, image: Image) -> None:
        """Save a picture with its texts and remember its key."""
        write_png(image, file.path, file.parameters, file.made)
        self._paths[file.key] = file.path


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
