"""Checks, before anything is rendered, of the folders that a grid is to be scored by."""

from __future__ import annotations

from pathlib import Path

from loratools.preview.request.options import ScoreRequest


def check_scores(request: ScoreRequest) -> None:
    """Raise unless every folder and model in the request can be used; no image and no weights are read.

    Raises:
        LoratoolsError: naming the folder.
    """
    for folder in (request.training, request.held_out):
        if folder is not None:
            check_images(folder)
    for model in request.models:
        check_model(model)


def check_images(folder: Path) -> None:
    """Raise unless ``folder`` holds images to compare with.

    Raises:
        FileError: if there is no such folder.
        DatasetError: if it holds none.
    """
    from loratools.measures.pictures import images_in

    images_in(folder)


def check_model(folder: Path) -> None:
    """Raise unless ``folder`` holds a CLIP or DINO.

    Raises:
        FileError, FormatError: as :func:`.features.model_kind`.
    """
    from loratools.measures.features import model_kind

    model_kind(folder)
