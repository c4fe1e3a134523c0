"""Draw a rendered grid's sheet and page again, with other words or figures; nothing is rendered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from loratools.pocket.judge import JudgeFunction
from loratools.preview.judge.figures import FiguresOf
from loratools.preview.judge.grid_verdicts import with_verdicts
from loratools.preview.judge.scores import scored_by
from loratools.preview.record.folder import read_grid
from loratools.preview.record.grid import Grid
from loratools.preview.request.options import ScoreRequest, SheetOptions
from loratools.preview.sheet.write import draw, worded


def redraw(
    folder: Path,
    *,
    notes: Mapping[str, str] | None = None,
    badges: Mapping[tuple[str, float], str] | None = None,
    title: str = "",
    figures: Sequence[FiguresOf] = (),
    options: SheetOptions | None = None,
) -> Grid:
    """Draw the sheet and the page of a rendered grid again, with other texts; nothing is rendered.

    ``notes`` go under row labels, ``badges`` under cells by (row label, weight), ``figures`` are read from the
    pictures; all are kept in ``grid.json``. The 0.9 test is made again, since the pictures decide it. Winners of a
    ``votes.json`` in the folder are marked.
    """
    options = options or SheetOptions()
    grid = worded(with_verdicts(folder, read_grid(folder).annotated(notes, badges)), options)
    grid = replace(grid, title=title or grid.title)
    for made in figures:
        grid = made(folder, grid).annotate(grid)
    draw(folder, grid, options)
    return grid


def draw_scores(
    folder: Path, request: ScoreRequest, judge: JudgeFunction, options: SheetOptions | None = None, title: str = ""
) -> Grid:
    """Score the pictures of the grid in ``folder`` and draw the figures under them.

    Args:
        judge: reads tags, style and defects; used for grids of the pocket base alone.
    Raises:
        LoratoolsError: as :func:`.judge.scores.scored_by`, and for images that cannot be read.
    """
    return redraw(folder, figures=[scored_by(request, judge)], options=options, title=title)
