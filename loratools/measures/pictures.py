"""Pictures of a folder, as measures take them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, overload

import numpy as np

from loratools.errors import DatasetError, FileError
from loratools.measures.measure import Shown

if TYPE_CHECKING:
    from PIL.Image import Image


def images_in(folder: Path) -> list[Path]:
    """Where the images of a folder lie, those of folders in it too.

    Raises:
        FileError: if there is no such folder.
        DatasetError: if it holds none.
    """
    from loratools.dataset.folder import IMAGE_EXTENSIONS

    if not folder.is_dir():
        raise FileError(f"there is no folder '{folder}'; pictures are compared with the images of a folder here")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_EXTENSIONS)
    if not paths:
        raise DatasetError(f"there are no images in {folder}, which pictures are to be compared with")
    return paths


class Pictures(Sequence["Image"]):
    """Images that are opened when they are asked for: thousands of cells are more than memory holds."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths

    @overload
    def __getitem__(self, index: int) -> Image: ...

    @overload
    def __getitem__(self, index: slice) -> Pictures: ...

    def __getitem__(self, index: int | slice) -> Image | Pictures:
        """One image, or a part that is opened later.

        Raises:
            DatasetError: for an image that cannot be read.
        """
        return Pictures(self._paths[index]) if isinstance(index, slice) else open_image(self._paths[index])

    def __len__(self) -> int:
        return len(self._paths)


def read_images(folder: Path) -> Pictures:
    """The images of a folder, those of folders in it too.

    Raises:
        DatasetError: if there are none.
    """
    return Pictures(images_in(folder))


def open_image(path: Path) -> Image:
    """An image in RGB, as training sees it.

    Raises:
        DatasetError: if it cannot be read.
    """
    from loratools.dataset.images import open_image as open_picture

    return open_picture(path)


def read_shown(folder: Path) -> list[Shown]:
    """The pictures of a folder, each with its prompt and seed as far as they are known; see :func:`open_shown`.

    Raises:
        FileError, DatasetError: as :func:`images_in`; for a picture that cannot be read.
    """
    return [open_shown(path, number) for number, path in enumerate(images_in(folder))]


def open_shown(path: Path, number: int = 0) -> Shown:
    """A picture with the prompt and seed that its text names; else with the caption beside it, and ``number``.

    Raises:
        DatasetError: if it cannot be read.
    """
    from loratools.base.infotext import parameters, read_png

    pixels = np.asarray(open_image(path).convert("RGB"), dtype=np.uint8)
    text = read_png(path)[0] if path.suffix.lower() == ".png" else ""
    if text:
        own = parameters(text)
        seed = own.pairs.get("Seed", "")
        return Shown(pixels, own.prompt, int(seed) if seed.isdecimal() else number)
    caption = path.with_suffix(".txt")
    prompt = caption.read_text(encoding="utf-8", errors="replace").strip() if caption.is_file() else ""
    return Shown(pixels, prompt, number)
