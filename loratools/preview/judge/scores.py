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
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

import torch

from loratools.measures.copy_risk import is_copy, usual_nearest
from loratools.measures.features import Features, Pixels
from loratools.measures.pictures import Pictures, read_images
from loratools.preview.record.grid import Grid, PictureScore

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


def score_pictures(folder: Path, grid: Grid, scoring: Scoring) -> dict[str, tuple[PictureScore, ...]]:
    """The scores of every distinct picture of the grid in ``folder``, by key.

    Raises:
        DatasetError: for a folder of images without images, or an image that cannot be read.
    """
    by_key = {picture.key: picture for picture in grid.pictures}
    base_key = {grid.place(picture): picture.key for picture in grid.pictures}
    bases = {
        key: base_key.get(place) if (place := grid.base_place(picture)) else None for key, picture in by_key.items()
    }
    keys = list(by_key)
    images = Pictures([folder / by_key[key].file for key in keys])
    prompts = [grid.prompts[by_key[key].prompt] for key in keys]
    sets = {
        name: read_images(path)
        for name, path in (("nearest", scoring.training), ("held-out", scoring.held_out))
        if path is not None
    }
    scores: dict[str, list[PictureScore]] = {key: [] for key in keys}
    for features in scoring.features or (Pixels(),):
        compared = _Compared(features, images, prompts, sets)
        for n, key in enumerate(keys):
            base = bases[key]
            scores[key] += compared.scores(n, keys.index(base) if base is not None else None)
    if scoring.judge is not None:
        for key, own in zip(keys, judged(scoring.judge, images, prompts, list(sets.values())), strict=True):
            scores[key] += own
    return {key: tuple(own) for key, own in scores.items()}


class _Compared:
    """Everything as vectors of one kind of features."""

    def __init__(
        self, features: Features, images: Sequence[Image], prompts: Sequence[str], sets: Mapping[str, Sequence[Image]]
    ) -> None:
        self.name = features.name
        self.vectors = features.images(images)
        self.texts = features.texts(prompts)
        self.sets = {name: features.images(own) for name, own in sets.items()}
        self.usual = usual_nearest(self.sets["nearest"]) if "nearest" in self.sets else None

    def scores(self, index: int, base: int | None) -> list[PictureScore]:
        """Of one picture; ``base`` is the index of the picture that it is compared with."""
        own = self.vectors[index]
        scores = []
        if base is not None:
            scores.append(self._score("from base", max(0.0, 1 - float(own @ self.vectors[base]))))
        if (kept := self.sets.get("held-out")) is not None:
            scores.append(self._score("held-out", float((kept @ own).mean())))
        if (trained := self.sets.get("nearest")) is not None:
            near = float((trained @ own).max())
            before = None if base is None else float((trained @ self.vectors[base]).max())
            scores.append(self._score("nearest", near, "!" if is_copy(near, before, self.usual) else ""))
        if self.texts is not None:
            scores.append(self._score("prompt", float(own @ self.texts[index]), end=_PROMPT_END))
        return scores

    def _score(self, what: str, value: float, mark: str = "", end: float = 1.0) -> PictureScore:
        return PictureScore(f"{what} ({self.name})", f"{what} {value:.2f}{mark}", min(1.0, max(0.0, value / end)))


def judged(
    judge: JudgeFunction, images: Sequence[Image], prompts: Sequence[str], sets: Sequence[Sequence[Image]]
) -> list[list[PictureScore]]:
    """What the pocket's judge says of every picture; the style is compared with the last of ``sets``."""
    from loratools.pocket.draw import asked_tags

    wanted = _mean_style(judge(sets[-1])) if sets else None
    scored = []
    for reading, prompt in zip(judge(images), prompts, strict=True):
        obeyed, defects = reading.obeys(asked_tags(prompt)), fmean(reading.faults.values())
        own = [PictureScore("tags (judge)", f"tags {100 * obeyed:.0f} %", obeyed)]
        own.append(PictureScore("defects (judge)", f"defects {defects:.2f}", defects / 3))
        if wanted is not None:
            style = _cosine(reading.style, wanted)
            own.append(PictureScore("style (judge)", f"style {style:.2f}", style))
        scored.append(own)
    return scored


def _mean_style(readings: Sequence[Reading]) -> dict[str, float]:
    return {name: fmean(reading.style[name] for reading in readings) for name in readings[0].style}


def _cosine(one: Mapping[str, float], two: Mapping[str, float]) -> float:
    a, b = (torch.tensor([own[name] for name in one]) for own in (one, two))
    return float(torch.nn.functional.cosine_similarity(a, b, dim=0))
