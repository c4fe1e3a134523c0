"""The pool that saves pictures: what it says while others are still being saved."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from loratools.preview.plan.jobs import PictureFile
from loratools.preview.render.host_pixels import HostPixels
from loratools.preview.render.picture_store import PictureStore
from loratools.preview.render.png_writer import PngWriter

if TYPE_CHECKING:
    from PIL.Image import Image


class Slow(PictureStore):
    """A store in which pictures of the second batch wait until they may be saved."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.may = threading.Event()

    def put(self, file: PictureFile, image: Image) -> None:
        if file.key.startswith("second"):
            assert self.may.wait(20)
        super().put(file, image)


def test_a_batch_is_said_to_be_saved_while_later_ones_are_not(tmp_path: Path) -> None:
    """At a grid's end too: its first picture is not told of only when the last one is there."""
    store, said = Slow(tmp_path), 0
    with PngWriter(store, threads=2) as writing:
        files = {
            name: [PictureFile(tmp_path / "cells" / f"{name}{n}.png", f"{name}{n}", "", {}) for n in range(3)]
            for name in ("first", "second")
        }
        for own in files.values():
            said += writing.put(own, HostPixels(torch.zeros(3, 8, 8, 3, dtype=torch.uint8)))
        counts = writing.drain()
        while said < 3:
            said += next(counts)
        assert said == 3 and not store.lacks(files["first"]) and store.lacks(files["second"])
        store.may.set()
        assert sum(counts) == 3 and not store.lacks(files["second"])
        assert not list(writing.drain())
