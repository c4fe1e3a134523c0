"""Figures are read from pictures while they come, and the sheet is drawn once, with them on it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from loratools.base.model import Base
from loratools.errors import DatasetError, PocketError
from loratools.pocket.judge import Reading
from loratools.preview.drawing import GridDrawing
from loratools.preview.judge import figures
from loratools.preview.judge.figures import FiguresOf, FiguresThread
from loratools.preview.judge.scores import PictureScores, Scoring, scored_by
from loratools.preview.record.folder import read_grid
from loratools.preview.record.grid import Grid
from loratools.preview.redraw import draw_scores, redraw
from loratools.preview.request.arrange import arrange
from loratools.preview.request.options import EngineOptions, ScoreRequest, SheetOptions
from loratools.preview.request.request import SamplingRequest
from loratools.preview.request.rows import GridRow
from loratools.preview.request.setting import CellSetting
from loratools.preview.run import GridOutput, GridResult, render_axes
from loratools.preview.sheet.canvas import SheetCanvas
from loratools.recipe.steps.pictures.grid_judge import JudgedPictures
from tests.preview.judge.test_scores import noisy, training  # noqa: F401 a fixture
from tests.preview.sheet.test_sheet import flat_grid
from tests.preview.test_drawing import Opened, complete
from tests.preview.test_run import rows  # noqa: F401 a fixture


def read_by_mean(images: Sequence[Image.Image]) -> list[Reading]:
    """A judge that sees how light a picture is."""
    lights = [float(np.asarray(image.convert("RGB")).mean()) / 255 for image in images]
    return [Reading({"mouth": "smile"}, {"ink": light, "flat": 1 - light}, {"hands": 3 * light}) for light in lights]


def render(base: Base, rows: list[GridRow], out: Path, *figures: FiguresOf) -> GridResult:  # noqa: F811
    sampling = SamplingRequest(steps=1, sampler="DDIM")
    arrangement = arrange(
        [],
        CellSetting.of_sampling(sampling),
        rows=rows,
        weights=(0.0, 0.5, 1.0),
        prompts=["1girl, smile"],
        seeds=(1, 2),
        most=99,
    )
    output = GridOutput(out, figures=figures)
    return render_axes(arrangement, lambda _: base, output, options=EngineOptions(batch=3))


def both(folder: Path, training: Path) -> tuple[FiguresOf, FiguresOf]:  # noqa: F811
    """What the command line and recipes read from pictures; the judge of both reads any base's."""
    scoring = Scoring(training=training, held_out=training, judge=read_by_mean)
    return (
        lambda folder, grid: PictureScores(folder, scoring),
        lambda folder, grid: JudgedPictures(folder, "ink", read_by_mean),
    )


def test_pictures_are_scored_as_they_come_and_the_sheet_is_drawn_once(
    base: Base,
    rows: list[GridRow],  # noqa: F811
    tmp_path: Path,
    training: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written: list[Path] = []
    write = SheetCanvas.write

    def noted(self: SheetCanvas, path: Path, grid: Grid) -> bool:
        written.append(path)
        return write(self, path, grid)

    out = tmp_path / "a"
    with monkeypatch.context() as patched:
        opened = Opened(patched)
        patched.setattr(SheetCanvas, "write", noted)
        grid = render(base, rows, out, *both(out, training)).grid
    assert not opened.cells and written == [out / "grid.png"]
    made, scores = complete(out), (out / "scores.json").read_bytes()
    assert len(grid.scores) == 10 and len(grid.badges) == 6 and grid.rows[0].note.startswith("style 0.")
    names = [score.name for score in next(iter(grid.scores.values()))]
    assert "nearest (pixels)" in names and "style (judge)" in names and read_grid(out) == grid

    render(base, rows, tmp_path / "b")  # and figures afterwards, which read every picture
    redraw(tmp_path / "b", figures=both(tmp_path / "b", training))
    assert complete(tmp_path / "b") == made and (tmp_path / "b/scores.json").read_bytes() == scores

    for path in sorted((out / "cells").rglob("*.png"))[::2]:
        path.unlink()
    again = render(base, rows, out, *both(out, training))  # some found, some rendered
    assert again.reused and again.rendered and complete(out) == made and again.grid == grid


def test_what_the_command_line_scores_later_is_what_it_scores_at_once(
    base: Base,
    rows: list[GridRow],  # noqa: F811
    tmp_path: Path,
    training: Path,  # noqa: F811
) -> None:
    request = ScoreRequest(training, training)
    render(base, rows, tmp_path / "a", scored_by(request, read_by_mean))
    render(base, rows, tmp_path / "b")
    draw_scores(tmp_path / "b", request, read_by_mean)
    assert complete(tmp_path / "a") == complete(tmp_path / "b")
    assert "judge" not in (tmp_path / "a/grid.json").read_text(encoding="utf-8")  # it reads the pocket's pictures alone


def test_a_reading_that_fails_leaves_the_sheet_without_it(
    base: Base,
    rows: list[GridRow],  # noqa: F811
    tmp_path: Path,
    training: Path,  # noqa: F811
) -> None:
    (training / "0.png").write_bytes(b"no")
    with pytest.raises(DatasetError, match=r"0\.png cannot be read"):
        render(base, rows, tmp_path / "a", *both(tmp_path / "a", training))
    with pytest.raises(PocketError, match=r"no style 'inc' \(did you mean 'ink'"):
        render(base, rows, tmp_path / "b", lambda folder, grid: JudgedPictures(folder, "inc", read_by_mean))
    render(base, rows, tmp_path / "c")
    assert complete(tmp_path / "a") == complete(tmp_path / "b") == complete(tmp_path / "c")
    assert not list(tmp_path.rglob("scores.json"))


class Slow:
    """Waits until it may read, and notes what it reads."""

    def __init__(self) -> None:
        self.may = threading.Event()
        self.read: dict[str, tuple[int, int]] = {}

    def add(self, file: str, image: Image.Image) -> None:
        assert self.may.wait(10)
        self.read[file] = image.size

    def annotate(self, grid: Grid) -> Grid:
        return replace(grid, title=f"{len(self.read)} read")


def test_pictures_that_wait_take_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond it they are read again when it is their turn; a picture is never waited for."""
    monkeypatch.setattr(figures, "_MOST", 2 * 4 * 48 * 48)
    grid, slow = flat_grid(tmp_path, rows=1, prompts=2, seeds=2), Slow()
    thread = FiguresThread(tmp_path, [slow])
    files = [picture.file for picture in grid.pictures]
    with monkeypatch.context() as patched:
        opened = Opened(patched)
        for file in files:
            noisy(0).save(tmp_path / file)
            thread.add(file, noisy(0))
        assert not slow.read and thread._bytes == figures._MOST
        slow.may.set()
        assert thread.annotate(grid).title == f"{len(files)} read"
    assert set(slow.read.values()) == {(48, 48)} and thread._bytes == 0
    assert len(opened.cells) == len(files) - 2


def test_one_of_several_processes_reads_the_pictures(
    base: Base,
    rows: list[GridRow],  # noqa: F811
    tmp_path: Path,
    training: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    def noted(name: str) -> FiguresOf:
        return lambda folder, grid: asked.append(name) or PictureScores(folder, Scoring(training=training))  # type: ignore[func-returns-value]

    for name, value in (("WORLD_SIZE", "2"), ("RANK", "1"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    assert render(base, rows, tmp_path, noted("second")).rendered == 10 and not asked
    monkeypatch.setenv("RANK", "0")
    done = render(base, rows, tmp_path, noted("first"))
    assert (done.rendered, done.reused, asked) == (0, 10, ["first"]) and len(read_grid(tmp_path).scores) == 10


def test_a_grid_that_stops_stops_its_readers(tmp_path: Path) -> None:
    slow = Slow()
    drawing = GridDrawing(tmp_path, flat_grid(tmp_path, rows=1), SheetOptions(), [lambda folder, grid: slow])
    for number in range(50):
        drawing._figures.add(f"{number}.png", noisy(0))
    slow.may.set()
    drawing.close()
    assert len(slow.read) < 50
