"""What a grid is scored by, as a person names it: folders on this machine, looked at before anything is rendered."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from loratools.errors import FileError


@dataclass(frozen=True)
class ScoreRequest:
    """``training`` and ``held_out`` are folders of images, ``models`` those of a CLIP or DINO; see :mod:`.scores`."""

    training: Path | None = None
    held_out: Path | None = None
    models: tuple[Path, ...] = ()

    def check(self) -> None:
        """Raise what scoring would find missing; no image and no weights are read.

        Raises:
            LoratoolsError: naming the folder.
        """
        for folder in (self.training, self.held_out):
            if folder is not None:
                check_images(folder)
        for model in self.models:
            check_model(model)


def check_images(folder: Path) -> None:
    """Raise unless ``folder`` holds images to compare with.

    Raises:
        FileError: if there is no such folder.
        DatasetError: if it holds none.
    """
    from loratools.preview.judge.scores import images_in

    if not folder.is_dir():
        raise FileError(f"there is no folder '{folder}'; pictures are compared with the images of a folder here")
    images_in(folder)


def check_model(folder: Path) -> None:
    """Raise unless ``folder`` holds a CLIP or DINO.

    Raises:
        FileError, FormatError: as :func:`.features.model_kind`.
    """
    from loratools.preview.judge.features import model_kind

    model_kind(folder)
