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


class JudgedPictures:
    """Has ``judge`` read a grid's pictures as they come; a :class:`~loratools.preview.judge.figures.GridFigures`.

    Args:
        folder: where the grid's pictures lie, and ``scores.json`` is written.
        style: the one whose probability is the score.
    """

    def __init__(self, folder: Path, style: str, judge: JudgeFunction) -> None:
        self._folder, self._style, self._judge = folder, style, judge
        self._readings: dict[str, Reading] = {}  # by file
        self.facts: dict[str, Any] = {}  # as scores.json keeps them

    def add(self, file: str, image: Image) -> None:
        """Read a picture; one that came before is passed over.

        Raises:
            PocketError: if the judge knows no such style.
        """
        if file in self._readings:
            return
        reading = self._judge([image])[0]
        if self._style not in (known := reading.style):
            raise PocketError(
                f"the judge knows no style '{self._style}'{did_you_mean(self._style, known)}; it knows "
                f"{', '.join(known)}"
            )
        self._readings[file] = reading

    def annotate(self, grid: Grid) -> Grid:
        """Write ``scores.json``, and return ``grid`` with the scores beside its rows and under its cells."""
        scores = self.scores(grid)
        self.facts = scores.json()
        write_text(self._folder / FILE, json.dumps(self.facts, indent=1, ensure_ascii=False) + "\n")
        return grid.annotated(scores.notes, scores.badges)

    def scores(self, grid: Grid) -> GridScores:
        """The means of every cell; pictures that have not come are read from their files."""
        weights = [weight for weight in grid.weights if weight != 0]
        judged = 1.0 if 1.0 in weights else max(weights, default=0.0)
        rows = {
            row.label: {weight: self._cell(grid, index, weight) for weight in weights or [0.0]}
            for index, row in enumerate(grid.rows)
        }
        return GridScores(self._style, judged, self._cell(grid, 0, 0.0), rows)

    def _cell(self, grid: Grid, row: int, weight: float) -> JudgeScore:
        from loratools.measures.pictures import open_image

        pictures = grid.cell(row, weight)
        for picture in pictures:
            if picture.file not in self._readings:
                self.add(picture.file, open_image(self._folder / picture.file))
        readings = [self._readings[picture.file] for picture in pictures]
        return mean_score(readings, [grid.prompts[picture.prompt] for picture in pictures], self._style)


def mean_score(readings: Sequence[Reading], prompts: Sequence[str], style: str) -> JudgeScore:
    """The means over pictures, each with the prompt that asked for it."""
    from loratools.pocket.draw import asked_tags

    faults = {name: fmean(reading.faults[name] for reading in readings) for name in readings[0].faults}
    obeyed = [reading.obeys(asked_tags(prompt)) for reading, prompt in zip(readings, prompts, strict=True)]
    return JudgeScore(
        fmean(reading.style[style] for reading in readings), fmean(obeyed), fmean(faults.values()), faults
    )
