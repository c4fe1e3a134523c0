"""A grid's sheet and verdicts are made while its pictures come; what is written is as if they were made at the end."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from loratools.base.model import Base
from loratools.errors import FormatError
from loratools.preview.drawing import GridDrawing
from loratools.preview.record.folder import read_grid
from loratools.preview.redraw import redraw
from loratools.preview.render.picture_store import PictureStore
from loratools.preview.render.png_writer import PngWriter
from loratools.preview.request.options import SheetOptions
from loratools.preview.request.rows import GridRow
from loratools.preview.sheet.sheet import draw_sheet
from tests.preview.test_run import files, pixels, render, rows  # noqa: F401 a fixture


class Opened:
    """Counts the pictures of cells that are read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cells: list[str] = []
        opened = Image.open

        def note(file: Any, *given: Any, **named: Any) -> Image.Image:
            if "cells" in Path(file).parts:
                self.cells.append(Path(file).name)
            return opened(file, *given, **named)

        monkeypatch.setattr(Image, "open", note)


def complete(out: Path) -> dict[str, bytes]:
    """The files that show the grid in ``out``; the sheet is the one that is drawn of its pictures at once."""
    assert np.array_equal(pixels(out / "grid.png"), np.asarray(draw_sheet(out, read_grid(out))))
    return {name: (out / name).read_bytes() for name in ("grid.png", "grid.json", "grid.html")}


def test_no_picture_is_read_again(
    base: Base,
    rows: list[GridRow],  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patched:
        opened = Opened(patched)
        render(base, rows, tmp_path)
    assert not opened.cells
    made = complete(tmp_path)
    redraw(tmp_path)  # reads all of them
    assert complete(tmp_path) == made


def test_a_resumed_grid_has_the_same_sheet(base: Base, rows: list[GridRow], tmp_path: Path) -> None:  # noqa: F811
    render(base, rows, tmp_path)
    made = complete(tmp_path)
    for lost in (["grid.png", "grid.html"], ["grid.html"], []):
        cells = sorted((tmp_path / "cells").rglob("*.png"))
        for path in [*cells[:: len(lost) + 2], *(tmp_path / name for name in lost)]:
            path.unlink()
        assert render(base, rows, tmp_path).rendered > 0 and complete(tmp_path) == made
    assert render(base, rows, tmp_path).rendered == 0 and complete(tmp_path) == made


def test_a_grid_that_stops_leaves_the_old_sheet_or_none(
    base: Base,
    rows: list[GridRow],  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stop(self: PngWriter) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(PngWriter, "drain", stop)
        with pytest.raises(KeyboardInterrupt):
            render(base, rows, tmp_path / "a")
    assert files(tmp_path / "a") and not list((tmp_path / "a").glob("grid.*"))
    assert not list((tmp_path / "a").rglob("*.part"))
    render(base, rows, tmp_path / "a")
    render(base, rows, tmp_path / "b")
    assert complete(tmp_path / "a") == complete(tmp_path / "b")


def test_pictures_of_other_processes_are_drawn_when_they_are_seen(
    base: Base,
    rows: list[GridRow],  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    grid = render(base, rows, tmp_path / "a").grid
    made = complete(tmp_path / "a")
    drawing = GridDrawing(
        tmp_path / "b", replace(grid, rows=tuple(replace(r, verdict=None) for r in grid.rows)), SheetOptions()
    )
    store = PictureStore(tmp_path / "b", drawing)
    wanted = _files(tmp_path / "a", tmp_path / "b", grid.pictures)
    store.rescan(wanted)
    assert store.lacks(wanted)
    shutil.copytree(tmp_path / "a" / "cells", tmp_path / "b" / "cells")
    store.rescan(wanted)
    assert not store.lacks(wanted)
    drawing._pool.shutdown(wait=True)
    with monkeypatch.context() as patched:
        opened = Opened(patched)
        drawing.finish(grid)
    assert not opened.cells and complete(tmp_path / "b") == made


def _files(source: Path, folder: Path, pictures: Sequence[Any]) -> list[Any]:
    from loratools.base.infotext import read_png
    from loratools.preview.plan.jobs import PictureFile

    return [PictureFile(folder / own.file, own.key, *read_png(source / own.file)) for own in pictures]


def test_votes_that_cannot_be_read_are_told_before_a_picture_is_made(
    base: Base,
    rows: list[GridRow],  # noqa: F811
    tmp_path: Path,
) -> None:
    (tmp_path / "votes.json").write_text("{}")
    with pytest.raises(FormatError, match=r"votes\.json"):
        render(base, rows, tmp_path)
    assert not files(tmp_path)
