"""Numbers for a grid of the pocket base: the style, the asked tags and the defects that each cell shows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from loratools.errors import PocketError, did_you_mean
from loratools.files import write_text

if TYPE_CHECKING:
    from PIL.Image import Image

    from loratools.pocket.judge import JudgeFunction, Reading
    from loratools.preview.record.grid import Grid
    from loratools.preview.request.options import SheetOptions

FILE = "scores.json"


@dataclass(frozen=True)
class JudgeScore:
    """Means over a cell's pictures. ``style`` is the probability that the judge gives the style, ``obedience`` the
    share of asked tags that it finds, ``defects`` the mean grade of all ``faults``, 0 (none) to 3 (bad)."""

    style: float
    obedience: float
    defects: float
    faults: dict[str, float]

    def text(self) -> str:
        """For a row's label."""
        return f"style {self.style:.2f}  tags {100 * self.obedience:.0f} %\ndefects {self.defects:.2f}"


@dataclass(frozen=True)
class GridScores:
    """A grid's scores: of the base alone, and by row label and weight; rows are judged at ``weight``."""

    style: str
    weight: float
    base: JudgeScore
    rows: dict[str, dict[float, JudgeScore]]

    def row(self, label: str) -> JudgeScore:
        """A row's score at the judged weight."""
        return self.rows[label][self.weight]

    @property
    def notes(self) -> dict[str, str]:
        """A line for each row's label."""
        return {label: self.row(label).text() for label in self.rows}

    @property
    def badges(self) -> dict[tuple[str, float], str]:
        """The style's score for each cell, the base's included."""
        cells = {
            (label, weight): f"{score.style:.2f}" for label, by in self.rows.items() for weight, score in by.items()
        }
        return cells | {(label, 0.0): f"{self.base.style:.2f}" for label in self.rows}

    def json(self) -> dict[str, Any]:
        """As JSON values: the rows at the judged weight, and every cell."""
        rows = [{"label": label, **asdict(self.row(label))} for label in self.rows]
        cells = [
            {"label": label, "weight": weight, **asdict(score)}
            for label, by in self.rows.items()
            for weight, score in by.items()
        ]
        return {"style": self.style, "weight": self.weight, "base": asdict(self.base), "rows": rows, "cells": cells}


def score_grid(folder: Path, style: str, judge: JudgeFunction, sheet: SheetOptions | None = None) -> GridScores:
    """Have ``judge`` read every picture of the grid in ``folder``, write ``scores.json`` and draw its ``sheet``
    again with the scores on it.

    Raises:
        PocketError: if the judge knows no such style.
    """
    from loratools.preview.record.folder import read_grid
    from loratools.preview.redraw import redraw

    grid = read_grid(folder)
    weights = [weight for weight in grid.weights if weight != 0]
    judged = 1.0 if 1.0 in weights else max(weights, default=0.0)
    base = _score(folder, grid, 0, 0.0, style, judge)
    rows = {
        row.label: {weight: _score(folder, grid, index, weight, style, judge) for weight in weights or [0.0]}
        for index, row in enumerate(grid.rows)
    }
    scores = GridScores(style, judged, base, rows)
    write_text(folder / FILE, json.dumps(scores.json(), indent=1, ensure_ascii=False) + "\n")
    redraw(folder, notes=scores.notes, badges=scores.badges, options=sheet)
    return scores


def _score(folder: Path, grid: Grid, row: int, weight: float, style: str, judge: JudgeFunction) -> JudgeScore:
    pictures = grid.cell(row, weight)
    readings = judge([_open(folder / picture.file) for picture in pictures])
    prompts = [grid.prompts[picture.prompt] for picture in pictures]
    if readings and style not in readings[0].style:
        known = readings[0].style
        raise PocketError(
            f"the judge knows no style '{style}'{did_you_mean(style, known)}; it knows {', '.join(known)}"
        )
    return mean_score(readings, prompts, style)


def mean_score(readings: Sequence[Reading], prompts: Sequence[str], style: str) -> JudgeScore:
    """The means over pictures, each with the prompt that asked for it."""
    from loratools.pocket.draw import asked_tags

    faults = {name: fmean(reading.faults[name] for reading in readings) for name in readings[0].faults}
    obeyed = [reading.obeys(asked_tags(prompt)) for reading, prompt in zip(readings, prompts, strict=True)]
    return JudgeScore(
        fmean(reading.style[style] for reading in readings), fmean(obeyed), fmean(faults.values()), faults
    )


def _open(path: Path) -> Image:
    from PIL import Image

    with Image.open(path) as image:
        return image.convert("RGB")
