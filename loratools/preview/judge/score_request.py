"""What a grid is scored by, as a person names it: folders on this machine, looked at before anything is rendered."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from loratools.errors import FileError

if TYPE_CHECKING:
    from loratools.pocket.judge import JudgeFunction
    from loratools.preview.record.grid import Grid
    from loratools.preview.sheet.write import Drawing


@dataclass(frozen=True)
class ScoredBy:
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

    def draw(self, folder: Path, judge: JudgeFunction, drawing: Drawing, title: str = "") -> Grid:
        """Score the grid in ``folder`` and draw the figures under its pictures; ``judge`` reads the pocket's alone.

        Raises:
            LoratoolsError: as :func:`.scores.score_pictures` and :func:`.features.load_features`.
        """
        from loratools.preview.judge.features import load_features
        from loratools.preview.judge.scores import Scoring, score_pictures
        from loratools.preview.record.grid import read_grid
        from loratools.preview.run import redraw

        grid = read_grid(folder)
        scoring = Scoring(
            tuple(load_features(model) for model in self.models),
            self.training,
            self.held_out,
            judge if grid.base == "pocket" else None,
        )
        return redraw(folder, scores=score_pictures(folder, grid, scoring), drawing=drawing, title=title)


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
