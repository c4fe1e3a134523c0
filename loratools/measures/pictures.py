"""Pictures of a folder, as measures take them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from loratools.errors import DatasetError, FileError
from loratools.measures.measure import Shown


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


def read_shown(folder: Path) -> list[Shown]:
    """The pictures of a folder, with the text of the file beside each as its prompt (empty where there is none).

    Raises:
        FileError, DatasetError: as :func:`images_in`; for a picture that cannot be read.
    """
    from loratools.dataset.images import open_image

    shown = []
    for number, path in enumerate(images_in(folder)):
        caption = path.with_suffix(".txt")
        prompt = caption.read_text(encoding="utf-8", errors="replace").strip() if caption.is_file() else ""
        shown.append(Shown(np.asarray(open_image(path).convert("RGB"), dtype=np.uint8), prompt, number))
    return shown
