"""Rows judged while pictures come are judged as those of a finished grid."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from loratools.preview.judge import grid_verdicts
from loratools.preview.judge.grid_verdicts import GridVerdicts, with_verdicts
from loratools.preview.judge.verdict import PictureMeasures, Verdict, judge_pictures
from loratools.preview.record.grid import Grid
from tests.preview.sheet.test_sheet import WEIGHTS, flat_grid


def drawn_grid(folder: Path) -> Grid:
    """Three rows of smooth pictures: one that stays near the base, one that turns into noise, one that fades."""
    grid = flat_grid(folder, rows=3, prompts=2, seeds=1, side=400)
    across = np.linspace(0, 3, 400)
    for picture in grid.pictures:
        base = 128 + 90 * np.sin((3 + picture.prompt) * across)[:, None] * np.cos(5 * across)[None]
        noise = np.random.default_rng(picture.row * 10 + picture.prompt).normal(0, 90, base.shape)
        own = (
            base + 30 * picture.weight * np.sin(9 * across),
            base + picture.weight * 2 * noise,
            base * (1 - picture.weight) + 128 * picture.weight,
        )[picture.row]
        pixels = np.clip(own, 0, 255).astype(np.uint8)
        Image.fromarray(np.stack([pixels] * 3, axis=-1)).save(folder / picture.file)
    return grid


def one_by_one(folder: Path, grid: Grid) -> list[Verdict]:
    """The verdicts by the test itself, row by row, of pictures that are read as they are needed."""

    def measured(file: str) -> PictureMeasures:
        with Image.open(folder / file) as image:
            return PictureMeasures(np.asarray(image.reduce(2), dtype=np.float32))

    return [
        judge_pictures({w: [measured(picture.file) for picture in grid.cell(row, w)] for w in WEIGHTS})
        for row in range(len(grid.rows))
    ]


@pytest.mark.parametrize("most", [None, 0, 200_000])
@pytest.mark.parametrize("missing", [0, 5])
def test_verdicts_are_the_same_in_any_order_and_with_little_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int | None, missing: int
) -> None:
    if most is not None:
        monkeypatch.setattr(grid_verdicts, "_MOST", most)
    grid = drawn_grid(tmp_path)
    expected = one_by_one(tmp_path, grid)
    assert len({verdict.text for verdict in expected}) == 3
    for seed in range(2):
        verdicts = GridVerdicts(tmp_path, grid)
        files = [picture.file for picture in grid.pictures]
        random.Random(seed).shuffle(files)

        def add(file: str, verdicts: GridVerdicts = verdicts) -> None:
            with Image.open(tmp_path / file) as image:
                verdicts.add(file, image)
                verdicts.add(file, image)  # again, as by another process
                verdicts.add("cells/unknown.png", image)

        with ThreadPoolExecutor(3) as pool:
            list(pool.map(add, files[missing:]))
        assert verdicts.verdicts(grid) == expected
        assert not verdicts._kept and verdicts._bytes == 0
    assert [row.verdict for row in with_verdicts(tmp_path, grid).rows] == [(v.level, v.text) for v in expected]


def test_a_row_is_judged_when_its_last_picture_comes(tmp_path: Path) -> None:
    grid = drawn_grid(tmp_path)
    verdicts = GridVerdicts(tmp_path, grid)
    for picture in grid.pictures:
        with Image.open(tmp_path / picture.file) as image:
            verdicts.add(picture.file, image)
    for picture in grid.pictures:
        (tmp_path / picture.file).unlink()  # nothing is read any more
    assert None not in verdicts.verdicts(grid)


def test_rows_without_a_number_for_their_strength_or_pictures_have_no_verdict(tmp_path: Path) -> None:
    grid = drawn_grid(tmp_path)
    first, second, third = grid.rows
    pictures = tuple(picture for picture in grid.pictures if picture.row != 1)
    grid = replace(grid, rows=(replace(first, times=None), second, third), pictures=pictures)
    verdicts = GridVerdicts(tmp_path, grid).verdicts(grid)
    assert verdicts[0] is None and verdicts[1] is None and verdicts[2] is not None
