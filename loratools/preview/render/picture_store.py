"""Pictures that are already on disk, found by their content key wherever in the grid's folder they lie."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from loratools.base.infotext import read_png, write_png
from loratools.preview.plan.jobs import Wanted

if TYPE_CHECKING:
    from PIL.Image import Image


class PictureStore:
    """The cells of a grid's folder. A picture counts as there only if it can be read whole and says its key."""

    def __init__(self, folder: Path) -> None:
        self._found: dict[str, Path] = {}
        for path in sorted((folder / "cells").rglob("*.png")):
            if key := read_png(path)[1].get("key"):
                self._found.setdefault(str(key), path)

    def lacks(self, wanted: Iterable[Wanted]) -> bool:
        """Whether any of these pictures is missing, so that it has to be rendered."""
        return any(item.key not in self._found for item in wanted)

    def look(self, wanted: Iterable[Wanted]) -> None:
        """Check whether other processes have written any of these meanwhile."""
        for item in wanted:
            if item.key not in self._found and item.path.exists() and read_png(item.path)[1].get("key") == item.key:
                self._found[item.key] = item.path

    def settle(self, wanted: Iterable[Wanted]) -> None:
        """Move pictures that exist under another name, or with older texts in them, to where they are wanted; their
        pixels stay the same."""
        from PIL import Image

        moves = []
        for item in wanted:
            at = self._found.get(item.key)
            if at is None or (at == item.path and read_png(at) == (item.parameters, item.made)):
                continue
            with Image.open(at) as image:
                moves.append((item, image.copy()))
        for item, pixels in moves:  # all are read before the first is written: two may change places
            self.put(item, pixels)

    def put(self, item: Wanted, image: Image) -> None:
        """Save a picture with its texts and remember its key."""
        write_png(image, item.path, item.parameters, item.made)
        self._found[item.key] = item.path
