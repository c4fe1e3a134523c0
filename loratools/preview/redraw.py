"""Draw a rendered grid's sheet and page again, with other words or figures; nothing is rendered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from loratools.measures.features import load_features
from loratools.pocket.judge import JudgeFunction
from loratools.preview.judge.grid_verdicts import with_verdicts
from loratools.preview.judge.scores import Scoring, score_pictures
from loratools.preview.record.folder import read_grid
from loratools.preview.record.grid import Grid, PictureScore
from loratools.preview.request.options import ScoreRequest, SheetOptions
from loratools.preview.sheet.write import draw, worded


def redraw(
    folder: Path,
    *,
    notes: Mapping[str, str] | None = None,
    badges: Mapping[tuple[str, float], str] | None = None,
    title: str = "",
    scores: Mapping[str, tuple[PictureScore, ...]] | None = None,
    options: SheetOptions | None = None,
) -> Grid:
    """Draw the sheet and the page of a rendered grid again, with other texts; nothing is rendered.

    ``notes`` go under row labels, ``badges`` under cells by (row label, weight), ``scores`` under pictures by key; all
    are kept in ``grid.json``. The 0.9 test is made again, since the pictures decide it. Winners of a ``votes.json`` in
    the folder are marked.
    """
    options = options or SheetOptions()
    grid = worded(with_verdicts(folder, read_grid(folder).annotated(notes, badges)), options)
    grid = replace(grid, title=title or grid.title, scores={**grid.scores, **(scores or {})})
    draw(folder, grid, options)
    return grid


def draw_scores(
    folder: Path, request: ScoreRequest, judge: JudgeFunction, options: SheetOptions | None = None, title: str = ""
) -> Grid:
    """Score the pictures of the grid in ``folder`` and draw the figures under them.

    Args:
        judge: reads tags, style and defects; used for grids of the pocket base alone.
    Raises:
        LoratoolsError: as :func:`.judge.scores.score_pictures` and :func:`.judge.features.load_features`.
    """
    grid = read_grid(folder)
    scoring = Scoring(
        tuple(load_features(model) for model in request.models),
        request.training,
        request.held_out,
        judge if grid.base == "pocket" else None,
    )
    return redraw(folder, scores=score_pictures(folder, grid, scoring), options=options, title=title)
