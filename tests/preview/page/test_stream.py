"""A page that is written while its pictures come is the page that is written of all of them at once."""

from __future__ import annotations

import random
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from loratools.errors import FileError
from loratools.preview.page import stream, write_page
from loratools.preview.page.stream import PageStream
from loratools.preview.record.grid import Grid
from tests.preview.page.pages import page_grid


def files(grid: Grid) -> list[str]:
    return list(dict.fromkeys(picture.file for picture in grid.pictures))


def leftovers(folder: Path) -> list[Path]:
    return list(folder.glob(".grid.html.*"))


@pytest.fixture
def whole(tmp_path: Path) -> bytes:
    """The page of all pictures at once, with what is known only at the end."""
    write_page(tmp_path, finished(page_grid(tmp_path)), embed=True)
    page = (tmp_path / "grid.html").read_bytes()
    (tmp_path / "grid.html").unlink()
    return page


def finished(grid: Grid) -> Grid:
    return replace(grid, badges={(0, 1.0): "0.81"})


@pytest.mark.parametrize("held", [1 << 20, 1000])
@pytest.mark.parametrize("seed", range(4))
def test_whatever_order_pictures_come_in(
    tmp_path: Path, whole: bytes, seed: int, held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From several threads, some twice, some not at all, more than are held, and written to the disk in between."""
    monkeypatch.setattr(stream, "_SYNCED", 100)
    monkeypatch.setattr(stream, "_HELD", held)
    grid = page_grid(tmp_path)
    names = [*files(grid), *files(grid), "cells/of another grid.png"]
    random.Random(seed).shuffle(names)
    page = PageStream(tmp_path, grid, None)
    parts = [names[n : n + 5] for n in range(0, len(names), 5)]
    threads = [threading.Thread(target=lambda own=own: [page.add(name) for name in own]) for own in parts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not (tmp_path / "grid.html").exists()
    assert page.finish(finished(grid)) and (tmp_path / "grid.html").read_bytes() == whole
    page.close()
    assert not leftovers(tmp_path) and (tmp_path / "grid.html").read_bytes() == whole


def test_it_gives_up_where_pictures_are_large_or_the_grid_is_another(tmp_path: Path) -> None:
    grid = page_grid(tmp_path)
    size = sum((tmp_path / file).stat().st_size for file in files(grid))
    for most, kept in ((size + 3 * len(files(grid)), True), (size // 2, False)):
        page = PageStream(tmp_path, grid, most)
        for file in files(grid):
            page.add(file)
        assert bool(leftovers(tmp_path)) == kept
        assert page.finish(grid) == kept and not leftovers(tmp_path)
    page = PageStream(tmp_path, grid, None)
    assert not page.finish(replace(grid, title="another")) and not leftovers(tmp_path)


def test_a_grid_that_fails_leaves_the_page_that_was_there(tmp_path: Path) -> None:
    grid = page_grid(tmp_path)
    (tmp_path / "grid.html").write_text("before")
    (tmp_path / ".grid.html.killed.part").write_text("half")  # of a run that was killed
    page = PageStream(tmp_path, grid, None)
    assert len(leftovers(tmp_path)) == 1
    page.add(files(grid)[0])
    page.close()
    page.add(files(grid)[1])
    assert not leftovers(tmp_path) and (tmp_path / "grid.html").read_text() == "before"
    page = PageStream(tmp_path, grid, None)
    (tmp_path / files(grid)[1]).unlink()
    assert not page.finish(grid) and not leftovers(tmp_path)  # the whole page says which picture is missing
    with pytest.raises(FileError, match="render the grid again"):
        write_page(tmp_path, grid, embed=True)
