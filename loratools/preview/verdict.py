"""The guides' 0.9 test: does a row's LoRA work up to a weight of 0.9 without breaking the picture?

Measured on the rendered pictures alone, each against the base's own for the same prompt and seed, so it needs no other
model. It knows the ways in which a picture falls apart, not taste: a picture that passes may still be a bad likeness.

- noise: fine detail (the mean of |Laplacian|) is more than ``_NOISE`` times the base's;
- mush: less than 1 / ``_NOISE`` of it, or less than ``_FLAT`` of the base's contrast;
- burnt: more than ``_BURNT`` of the pixels are clipped to black or white beyond those that the base's picture clips,
  and contrast grew;
- one picture for all: with several prompts or seeds, the pictures of a weight differ from each other less than
  ``_ALIKE`` times as much as the base's do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from loratools.preview.grid import Grid

TESTED = 0.9
_NOISE, _FLAT, _BURNT, _ALIKE = 3.0, 0.35, 0.35, 0.35
_SEEN = 1.0  # a greatest difference of this many 255ths or less is no change: rounding alone gives one
_SHORT = 192  # sides above this are read at half size and so on: single pixels of a large picture are not its detail

Pixels = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Verdict:
    """What a row's pictures say; ``level`` is ``good``, ``under``, ``over`` or ``note``, as pages colour them.

    Args:
        text: one line for a person.
        holds: the greatest weight up to which nothing breaks, from 0 on; None if the first one above 0 breaks.
        breaks: the least weight above 0 at which most pictures break, if any, and ``why``.
        moved: mean difference from the base, of 255, at the weight nearest to 0.9.
    """

    level: str
    text: str
    holds: float | None = None
    breaks: float | None = None
    why: str = ""
    moved: float = 0.0


def with_verdicts(folder: Path, grid: Grid) -> Grid:
    """``grid`` with every row's verdict, from the pictures in ``folder``."""
    found = verdicts(folder, grid)
    rows = tuple(replace(row, verdict=(own.level, own.text)) for row, own in zip(grid.rows, found, strict=True))
    return replace(grid, rows=rows)


def verdicts(folder: Path, grid: Grid) -> list[Verdict]:
    """A verdict for every row."""
    read: dict[str, Pixels] = {}

    def pictures(row: int, weight: float) -> list[Pixels]:
        files = [picture.file for picture in grid.cell(row, weight)]
        for file in files:
            if file not in read:
                read[file] = _pixels(folder / file)
        return [read[file] for file in files]

    made = []
    for row in range(len(grid.rows)):
        by_weight = {weight: pictures(row, weight) for weight in grid.weights}
        made.append(judge_row(by_weight))
        for file in [picture.file for weight in grid.weights[1:] for picture in grid.cell(row, weight)]:
            read.pop(file, None)
    return made


def judge_row(pictures: Mapping[float, Sequence[Pixels]]) -> Verdict:
    """The verdict over one row's pictures (height, width, 3) in 0 to 255, by weight; weight 0 is the base."""
    base = pictures[0.0]
    others = sorted((weight for weight in pictures if weight != 0), key=abs)
    if not others:
        return Verdict("note", "0.9 test: no weight but 0 was rendered")
    if all(_change(base, pictures[weight])[1] <= _SEEN for weight in others):
        return Verdict("under", f"changes nothing in the picture, up to a weight of {others[-1]:g}")
    rising = [weight for weight in others if weight > 0]
    if not rising:
        return Verdict("note", "0.9 test: no weight above 0 was rendered")
    near = min(rising, key=lambda weight: abs(weight - TESTED))
    moved = _change(base, pictures[near])[0]
    holds: float | None = None
    for weight in rising:
        if why := broken(base, pictures[weight]):
            level = "good" if holds is not None and holds >= TESTED else "over"
            said = f"passes, breaks at {weight:g}" if level == "good" else f"fails, breaks at {weight:g}"
            return Verdict(level, f"0.9 test: {said} ({why})", holds, weight, why, moved)
        holds = weight
    if rising[-1] < TESTED:
        return Verdict("note", f"0.9 test: not reached; holds up to {rising[-1]:g}", holds, moved=moved)
    return Verdict("good", f"0.9 test: passes, holds up to {rising[-1]:g}", holds, moved=moved)


def broken(base: Sequence[Pixels], pictures: Sequence[Pixels]) -> str:
    """Why most of ``pictures`` are broken beside the base's of the same prompts and seeds; empty if they are not."""
    reasons = [why for one, two in zip(base, pictures, strict=True) if (why := _reason(one, two))]
    if 2 * len(reasons) > len(pictures):
        return max(set(reasons), key=lambda why: (reasons.count(why), why))
    if len(pictures) > 1 and (usual := _spread(base)) > 0 and _spread(pictures) < _ALIKE * usual:
        return "one picture for all prompts and seeds"
    return ""


def _reason(base: Pixels, picture: Pixels) -> str:
    detail = _detail(picture) / max(_detail(base), 1e-3)
    contrast = float(picture.std()) / max(float(base.std()), 1e-3)
    if detail > _NOISE:
        return "noise"
    if detail < 1 / _NOISE or contrast < _FLAT:
        return "mush"
    if contrast > 1 and _clipped(picture) - _clipped(base) > _BURNT:
        return "burnt"
    return ""


def _detail(picture: Pixels) -> float:
    grey = picture.mean(axis=2)
    laplacian = 4 * grey[1:-1, 1:-1] - grey[:-2, 1:-1] - grey[2:, 1:-1] - grey[1:-1, :-2] - grey[1:-1, 2:]
    return float(np.abs(laplacian).mean())


def _clipped(picture: Pixels) -> float:
    return float(((picture <= 1) | (picture >= 254)).all(axis=2).mean())


def _change(base: Sequence[Pixels], pictures: Sequence[Pixels]) -> tuple[float, float]:
    """The mean and the greatest difference from the base."""
    apart = [np.abs(one - two) for one, two in zip(base, pictures, strict=True)]
    return float(np.mean([each.mean() for each in apart])), max(float(each.max()) for each in apart)


def _spread(pictures: Sequence[Pixels]) -> float:
    """How far pictures are from their mean; 0 for sizes that differ."""
    if len({picture.shape for picture in pictures}) > 1:
        return 0.0
    whole = np.stack(pictures)
    return float(np.abs(whole - whole.mean(axis=0)).mean())


def _pixels(path: Path) -> Pixels:
    from PIL import Image

    with Image.open(path) as opened:
        image: Any = opened.convert("RGB")
        factor = max(1, min(image.size) // _SHORT)
        image = image.reduce(factor) if factor > 1 else image
        return np.asarray(image, dtype=np.float32)
