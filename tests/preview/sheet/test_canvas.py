"""The sheet that is drawn while pictures come is the one that is drawn of all at once, pixel by pixel."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from loratools.imaging.colours import PAPER
from loratools.imaging.png import Pixels
from loratools.measures.votes.votes_file import Marks
from loratools.preview.record.grid import AxisInfo, Grid, PictureScore
from loratools.preview.sheet import canvas as canvas_module
from loratools.preview.sheet import sheet
from loratools.preview.sheet.canvas import SheetCanvas
from loratools.preview.sheet.layout import plan_layout
from loratools.preview.sheet.sheet import draw_sheet
from loratools.preview.sheet.write import draw
from tests.imaging.test_png import chunks
from tests.preview.sheet.test_write import keyed, three_axes


def noisy(folder: Path, **shape: Any) -> Grid:
    """A grid of noise, each picture with its own key: nothing can be at another's place."""
    grid = keyed(folder, **shape)
    for n, picture in enumerate(grid.pictures):
        pixels = np.random.default_rng(n).integers(0, 256, (*grid.settings.size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / picture.file)
    return grid


def judged(grid: Grid) -> Grid:
    """``grid`` with all that is known at its end only: verdicts, scores and a badge."""
    said = ("good", "0.9 test: passes, holds up to 1, and some more words")
    scores = {
        picture.key: (PictureScore("a (b)", f"a {n}", n / len(grid.pictures)), PictureScore("c", "c"))
        for n, picture in enumerate(grid.pictures)
    }
    rows = tuple(replace(row, verdict=said) for row in grid.rows)
    return replace(grid, rows=rows, scores=scores, badges={(0, 0.5): "best"})


def of_other_sizes(grid: Grid, folder: Path) -> Grid:
    """``grid`` with every third picture of another size."""
    pictures = []
    for n, picture in enumerate(grid.pictures):
        if n % 3 == 0:
            size = (64, 96) if n % 2 else (96, 128)
            pixels = np.random.default_rng(n).integers(0, 256, (*size, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / picture.file)
            picture = replace(picture, settings=replace(grid.settings, size=size))
        pictures.append(picture)
    return replace(grid, pictures=tuple(pictures))


def adapters_across(grid: Grid) -> Grid:
    """The same pictures with rows across: what the 0.9 test says stands in the columns' headings."""
    axes = (
        AxisInfo("adapter", tuple(row.label for row in grid.rows), "adapter", "x"),
        AxisInfo("weight", ("base", "0.5", "1"), "weight", "y"),
        AxisInfo("prompt", grid.prompts, "prompt"),
        AxisInfo("seed", tuple(map(str, grid.seeds)), "seed"),
    )
    placed = [
        replace(p, at=(p.row, (0.0, 0.5, 1.0).index(p.weight), p.prompt, p.seed), base=(p.row, 0, p.prompt, p.seed))
        for p in grid.pictures
    ]
    return replace(grid, axes=axes, pictures=tuple(placed))


def drawn(folder: Path, grid: Grid, final: Grid, marks: Marks | None, seed: int = 0) -> Pixels:
    """The sheet of ``final`` whose pictures came in any order while ``grid`` was known, on several threads."""
    canvas = SheetCanvas(grid, marks)
    files = [picture.file for picture in grid.pictures]
    random.Random(seed).shuffle(files)

    def add(file: str) -> None:
        with Image.open(folder / file) as image:
            canvas.add(file, image)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, files))
    assert canvas.write(folder / "grid.png", final)
    chunks(folder / "grid.png")
    with Image.open(folder / "grid.png") as image:
        return np.asarray(image)


MARKS = Marks({"k1": 3, "k4": 5}, "k1")


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("marks", [None, MARKS, Marks({}, "k0")], ids=["plain", "stars", "base wins"])
@pytest.mark.parametrize("arranged", [lambda grid: grid, three_axes, adapters_across], ids=["rows", "parts", "across"])
def test_pictures_that_come_one_by_one_make_the_same_sheet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arranged: Any, marks: Marks | None, seed: int
) -> None:
    monkeypatch.setattr(canvas_module, "_WIDE", (1, 300)[seed])  # a part for each cell, and of several
    monkeypatch.setattr(canvas_module, "_SLAB", (1, 200_000)[seed])
    grid = arranged(noisy(tmp_path, prompts=2, seeds=1, side=64))
    for final in (grid, judged(grid)):
        expected = np.asarray(draw_sheet(tmp_path, final, marks=marks))
        assert np.array_equal(drawn(tmp_path, grid, final, marks, seed), expected)


def test_pictures_of_several_sizes_and_places_without_one(tmp_path: Path) -> None:
    grid = of_other_sizes(noisy(tmp_path, prompts=2, seeds=2), tmp_path)
    for own in (grid, replace(grid, pictures=tuple(p for p in grid.pictures if (p.row, p.weight) != (1, 0.5)))):
        expected = np.asarray(draw_sheet(tmp_path, judged(own)))
        assert np.array_equal(drawn(tmp_path, own, judged(own), None), expected)


def test_a_reduced_sheet_and_pictures_that_many_cells_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loratools.preview.sheet.layout.MOST_PIXELS", 60_000)
    grid = noisy(tmp_path, rows=4, prompts=1, seeds=1)
    first = grid.pictures[0]
    shared = tuple(replace(p, file=first.file, key=first.key) if p.weight == 0 else p for p in grid.pictures)
    grid = replace(grid, pictures=shared)
    assert plan_layout(grid).picture < (128, 128)
    assert np.array_equal(
        drawn(tmp_path, grid, judged(grid), MARKS), np.asarray(draw_sheet(tmp_path, judged(grid), marks=MARKS))
    )


def test_pictures_are_let_go_of_once_they_are_deflated(tmp_path: Path) -> None:
    grid = noisy(tmp_path, rows=3, prompts=1, seeds=1)
    canvas = SheetCanvas(grid)
    most = 0
    for picture in grid.pictures:  # row by row
        with Image.open(tmp_path / picture.file) as image:
            canvas.add(picture.file, image)
            canvas.add(picture.file, image)  # a second time is passed over
            canvas.add("cells/of another grid.png", image)
        most = max(most, len(canvas._tiles))
    assert most < len(grid.pictures) / len(grid.rows) + 1 and not canvas._tiles


def test_a_canvas_that_fits_no_more_writes_nothing(tmp_path: Path) -> None:
    grid = noisy(tmp_path, prompts=1, seeds=1)
    canvas = SheetCanvas(grid)
    canvas.read_missing(tmp_path)
    swapped = (grid.pictures[1], grid.pictures[0], *grid.pictures[2:])
    moved = tuple(replace(p, weight=q.weight) for p, q in zip(grid.pictures, swapped, strict=True))
    larger = replace(grid, settings=replace(grid.settings, size=(256, 256)))
    for other in (replace(grid, pictures=moved), replace(grid, pictures=grid.pictures[:-1]), larger):
        assert not canvas.write(tmp_path / "grid.png", other) and not (tmp_path / "grid.png").exists()
        draw(tmp_path, other, canvas=canvas)  # draws it of the files
        with Image.open(tmp_path / "grid.png") as image:
            assert np.array_equal(np.asarray(image), np.asarray(draw_sheet(tmp_path, other)))
        (tmp_path / "grid.png").unlink()


def test_votes_that_came_meanwhile_are_on_the_sheet(tmp_path: Path) -> None:
    grid = noisy(tmp_path, prompts=1, seeds=1)
    canvas = SheetCanvas(grid, MARKS)
    canvas.read_missing(tmp_path)
    draw(tmp_path, grid, canvas=canvas)  # the folder has no votes now
    with Image.open(tmp_path / "grid.png") as image:
        assert np.array_equal(np.asarray(image), np.asarray(draw_sheet(tmp_path, grid)))


def test_letters_that_reach_into_a_part_are_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were a label to end right beside a picture, the parts would not join; the sheet is then drawn as a whole."""
    grid = noisy(tmp_path, prompts=1, seeds=1)
    canvas = SheetCanvas(grid)
    canvas.read_missing(tmp_path)
    label = sheet._draw_label

    def wide(pen: Any, layout: Any, *others: Any) -> None:
        label(pen, layout, *others)
        row, part = others[0]
        pen.rectangle((0, layout.top(row, part), layout.left(0, part) - 1, layout.top(row, part) + 9), fill="red")

    monkeypatch.setattr(sheet, "_draw_label", wide)
    assert not canvas.write(tmp_path / "grid.png", grid)
    draw(tmp_path, grid, canvas=canvas)
    with Image.open(tmp_path / "grid.png") as image:
        pixels = np.asarray(image)
    assert np.array_equal(pixels, np.asarray(draw_sheet(tmp_path, grid)))
    layout = plan_layout(grid)
    assert pixels[layout.top(0) + 2, layout.left(0) - 1].tolist() == [255, 0, 0] and PAPER != "red"
