"""Figures under each picture of a grid: how far from the base, how close to images, how obedient. Never one number.

- ``from base``: 1 - the cosine to the base's picture of the same prompt and seed: 0 is the same picture;
- ``held-out``: the mean cosine to the images that were kept from training: how well what was learned carries over;
- ``nearest``: the cosine to the nearest training image; a copy is marked ``!`` (see
  :mod:`loratools.measures.copy_risk`);
- ``prompt``: the cosine of CLIP between picture and prompt, which is low in absolute terms (0.2 to 0.35 is usual), so
  compare it with the base's; its strip ends at 0.4;
- ``tags``, ``defects``, ``style``: of the pocket's judge: the share of asked tags that it finds, its mean grade of
  defects (0 none to 3 bad), and the cosine of its style probabilities to the mean of the images'.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from loratools.measures.copy_risk import is_copy, usual_nearest
from loratools.measures.features import Features, Pixels, load_features
from loratools.measures.pictures import Pictures, open_image, read_images
from loratools.preview.judge.figures import FiguresOf
from loratools.preview.record.grid import Grid, PictureScore
from loratools.preview.request.options import ScoreRequest

if TYPE_CHECKING:
    from PIL.Image import Image

    from loratools.pocket.judge import JudgeFunction, Reading

_PROMPT_END = 0.4  # where the strip of CLIP's cosine ends


@dataclass(frozen=True)
class Scoring:
    """By what pictures are scored.

    Args:
        features: comparisons; pixels alone where there are none.
        training: folder of training images, for ``nearest``.
        held_out: folder of images that were not trained on.
        judge: reads pictures of the pocket base.
    """

    features: tuple[Features, ...] = ()
    training: Path | None = None
    held_out: Path | None = None
    judge: JudgeFunction | None = None


@dataclass(frozen=True, eq=False)
class _Measured:
    """A picture as vectors (d,), one of each kind of features, and what the judge reads in it."""

    vectors: tuple[Tensor, ...]
    reading: Reading | None


class PictureScores:
    """Scores pictures one by one as they come, from one thread at a time; see :class:`.figures.GridFigures`.

    Args:
        folder: where the grid's pictures lie.
    """

    def __init__(self, folder: Path, scoring: Scoring) -> None:
        self._folder, self._scoring = folder, scoring
        self._measured: dict[str, _Measured] = {}  # by file

    def add(self, file: str, image: Image) -> None:
        """Measure a picture; one that came before is passed over.

        Raises:
            DatasetError: for a folder of images without images, or an image that cannot be read.
        """
        if file not in self._measured:
            vectors = tuple(compared.features.images([image])[0] for compared in self._compared)
            judge = self._scoring.judge
            self._measured[file] = _Measured(vectors, judge([image])[0] if judge is not None else None)

    def annotate(self, grid: Grid) -> Grid:
        """``grid`` with these scores over those that it has.

        Raises:
            DatasetError: as :meth:`add`.
        """
        return replace(grid, scores={**grid.scores, **self.scores(grid)})

    def scores(self, grid: Grid) -> dict[str, tuple[PictureScore, ...]]:
        """The scores of every distinct picture, by key; those that have not come are read from their files."""
        by_key = {picture.key: picture for picture in grid.pictures}
        for picture in by_key.values():
            if picture.file not in self._measured:
                self.add(picture.file, open_image(self._folder / picture.file))
        file_at = {grid.place(picture): picture.file for picture in grid.pictures}
        texts = [compared.features.texts(grid.prompts) for compared in self._compared]
        scores: dict[str, tuple[PictureScore, ...]] = {}
        for key, picture in by_key.items():
            place = grid.base_place(picture)
            base = self._measured[file_at[place]] if place is not None and place in file_at else None
            prompt = [None if own is None else own[picture.prompt] for own in texts]
            own = self._measured[picture.file]
            compared = self._beside(own.vectors, None if base is None else base.vectors, prompt)
            scores[key] = (*compared, *self._judged(own.reading, grid.prompts[picture.prompt]))
        return scores

    def _beside(
        self, own: Sequence[Tensor], base: Sequence[Tensor] | None, prompt: Sequence[Tensor | None]
    ) -> list[PictureScore]:
        """A picture beside the base's, its prompt and the images, by every kind of features."""
        return [
            score
            for n, compared in enumerate(self._compared)
            for score in compared.scores(own[n], None if base is None else base[n], prompt[n])
        ]

    @cached_property
    def _sets(self) -> dict[str, Pictures]:
        """The images that pictures are compared with."""
        folders = (("nearest", self._scoring.training), ("held-out", self._scoring.held_out))
        return {name: read_images(path) for name, path in folders if path is not None}

    @cached_property
    def _compared(self) -> list[Comparison]:
        return [Comparison(features, self._sets) for features in self._scoring.features or (Pixels(),)]

    @cached_property
    def _wanted(self) -> dict[str, float] | None:
        """The style of the last of the sets."""
        if self._scoring.judge is None or not self._sets:
            return None
        return _mean_style(self._scoring.judge(list(self._sets.values())[-1]))

    def _judged(self, reading: Reading | None, prompt: str) -> list[PictureScore]:
        return [] if reading is None else judged(reading, prompt, self._wanted)


def scored_by(request: ScoreRequest, judge: JudgeFunction) -> FiguresOf:
    """What scores the pictures of a grid; models are loaded now.

    Args:
        judge: reads tags, style and defects; used for grids of the pocket base alone.
    Raises:
        FileError, FormatError: as :func:`loratools.measures.features.load_features`.
    """
    features = tuple(load_features(model) for model in request.models)
    return lambda folder, grid: PictureScores(
        folder, Scoring(features, request.training, request.held_out, judge if grid.base == "pocket" else None)
    )


class Comparison:
    """One kind of features, and the images that pictures are compared with as its vectors."""

    def __init__(self, features: Features, sets: Mapping[str, Sequence[Image]]) -> None:
        self.features = features
        self.sets = {name: features.images(own) for name, own in sets.items()}
        self.usual = usual_nearest(self.sets["nearest"]) if "nearest" in self.sets else None

    def scores(self, own: Tensor, base: Tensor | None, text: Tensor | None) -> list[PictureScore]:
        """Of one picture, the base's that it is compared with, and its prompt, as vectors (d,)."""
        scores = []
        if base is not None:
            scores.append(self._score("from base", max(0.0, 1 - float(own @ base))))
        if (kept := self.sets.get("held-out")) is not None:
            scores.append(self._score("held-out", float((kept @ own).mean())))
        if (trained := self.sets.get("nearest")) is not None:
            near = float((trained @ own).max())
            before = None if base is None else float((trained @ base).max())
            scores.append(self._score("nearest", near, "!" if is_copy(near, before, self.usual) else ""))
        if text is not None:
            scores.append(self._score("prompt", float(own @ text), end=_PROMPT_END))
        return scores

    def _score(self, what: str, value: float, mark: str = "", end: float = 1.0) -> PictureScore:
        name = f"{what} ({self.features.name})"
        return PictureScore(name, f"{what} {value:.2f}{mark}", min(1.0, max(0.0, value / end)))


def judged(reading: Reading, prompt: str, wanted: Mapping[str, float] | None) -> list[PictureScore]:
    """What the pocket's judge says of a picture; ``wanted`` is the style that it is compared with."""
    from loratools.pocket.draw import asked_tags

    obeyed, defects = reading.obeys(asked_tags(prompt)), fmean(reading.faults.values())
    own = [
        PictureScore("tags (judge)", f"tags {100 * obeyed:.0f} %", obeyed),
        PictureScore("defects (judge)", f"defects {defects:.2f}", defects / 3),
    ]
    if wanted is not None:
        style = _cosine(reading.style, wanted)
        own.append(PictureScore("style (judge)", f"style {style:.2f}", style))
    return own


def _mean_style(readings: Sequence[Reading]) -> dict[str, float]:
    return {name: fmean(reading.style[name] for reading in readings) for name in readings[0].style}


def _cosine(one: Mapping[str, float], two: Mapping[str, float]) -> float:
    a, b = (torch.tensor([own[name] for name in one]) for own in (one, two))
    return float(torch.nn.functional.cosine_similarity(a, b, dim=0))
