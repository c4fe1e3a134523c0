from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from loratools.imaging.colours import PAPER
from loratools.imaging.lettering import Lettering, font_file
from loratools.preview.record.cells import SamplingSettings
from loratools.preview.record.grid import Grid, Picture, PictureScore, RowInfo
from loratools.preview.sheet.layout import arrange, plan_layout
from loratools.preview.sheet.sheet import draw_sheet

WEIGHTS = (0.0, 0.5, 1.0)


def flat_grid(folder: Path, *, rows: int = 2, prompts: int = 2, seeds: int = 2, side: int = 128) -> Grid:
    """A grid whose pictures are flat colours that tell row, weight, prompt and seed."""
    pictures = []
    (folder / "cells").mkdir()
    for row in range(rows):
        for column, weight in enumerate(WEIGHTS):
            for prompt in range(prompts):
                for seed in range(seeds):
                    file = f"cells/{row}_{column}_{prompt}_{seed}.png"
                    color = (60 + 40 * row, 60 + 40 * column, 60 + 50 * prompt + 20 * seed)
                    Image.new("RGB", (side, side), color).save(folder / file)
                    pictures.append(Picture(row, weight, prompt, seed, file, "k"))
    infos = tuple(RowInfo(f"style-{row:06d}", str(row)) for row in range(rows))
    return Grid(
        "me",
        "title",
        "tiny",
        "d",
        "float32 cpu",
        infos,
        WEIGHTS,
        tuple(f"prompt{p}" for p in range(prompts)),
        tuple(range(seeds)),
        SamplingSettings(2, 7.0, "DDIM", (side, side)),
        tuple(pictures),
    )


@pytest.mark.parametrize(
    ("prompts", "seeds", "shape"), [(1, 1, (1, 1)), (2, 3, (3, 2)), (1, 4, (2, 2)), (5, 1, (3, 2)), (1, 2, (2, 1))]
)
def test_tiles_put_seeds_across_and_single_axes_near_a_square(prompts: int, seeds: int, shape: tuple[int, int]) -> None:
    assert arrange((prompts, seeds)) == shape


def test_every_picture_stands_in_its_place_and_the_labels_around_it(tmp_path: Path) -> None:
    grid = flat_grid(tmp_path)
    sheet, layout = draw_sheet(tmp_path, grid), plan_layout(grid)
    for row, weight in grid.cells():
        column = WEIGHTS.index(weight)
        for place in range(4):
            prompt, seed = divmod(place, 2)
            x = layout.left(column) + seed * (layout.picture[0] + 2) + 60
            y = layout.top(row) + prompt * (layout.picture[1] + 2) + 60
            wanted = (60 + 40 * row, 60 + 40 * column, 60 + 50 * prompt + 20 * seed)
            assert sheet.getpixel((x, y)) == wanted
    paper = tuple(int(PAPER[i : i + 2], 16) for i in (1, 3, 5))
    gutter = sheet.crop((0, layout.top(0), layout.left(0), layout.top(1))).getcolors(1 << 20)
    header = sheet.crop((layout.left(1), 0, sheet.width, layout.top(0))).getcolors(1 << 20)
    assert len(gutter) > 5 and len(header) > 5 and max(gutter)[1] == paper


def test_tiny_pictures_are_enlarged_by_whole_factors(tmp_path: Path) -> None:
    grid = flat_grid(tmp_path, side=32, prompts=1, seeds=1)
    assert plan_layout(grid).picture == (128, 128)
    draw_sheet(tmp_path, grid)


def test_a_huge_grid_stays_within_what_viewers_open(tmp_path: Path) -> None:
    grid = flat_grid(tmp_path, rows=1, prompts=1, seeds=1)
    big = replace(
        grid,
        rows=grid.rows * 100,
        weights=tuple(n / 100 for n in range(100)),
        settings=replace(grid.settings, size=(1024, 1024)),
    )
    layout = plan_layout(big)
    assert layout.left(100) * layout.top(100) < 178_956_970  # Pillow refuses more
    assert layout.picture[0] >= 8


def test_long_names_wrap_within_the_gutter(tmp_path: Path) -> None:
    grid = flat_grid(tmp_path, prompts=1, seeds=1)
    long = "my_very_long_style_name_without_any_space_at_all-000012" * 2
    named = replace(grid, rows=(replace(grid.rows[0], label=long, note="a\nb"), grid.rows[1]))
    layout = plan_layout(named)
    lines = layout.label.wrap(long, layout.gutter - 2 * layout.gap)
    assert len(lines) > 2 and "".join(lines) == long
    assert all(layout.label.width(line) <= layout.gutter - 2 * layout.gap for line in lines)
    draw_sheet(tmp_path, named)


def test_wrapping_breaks_unbroken_words_and_marks_what_is_left_out() -> None:
    letters = Lettering(16)
    assert letters.wrap("", 100) == [""]
    assert letters.wrap("a b\nc", 500) == ["a b", "c"]
    lines = letters.wrap("x" * 100, 60)
    assert "".join(lines) == "x" * 100 and all(letters.width(line) <= 60 for line in lines)
    short = letters.wrap("one two three four five six", 60, most=2)
    assert len(short) == 2 and short[1].endswith("…") and letters.width(short[1]) <= 60


def test_what_stands_under_the_pictures_is_in_the_font_too(tmp_path: Path) -> None:
    grid = flat_grid(tmp_path)
    assert font_file(plan_layout(grid).small.sample) is None
    for more in (
        replace(grid, captions=("größer",)),
        replace(grid, badges={(0, 1.0): "größer"}),
        replace(grid, scores={"k": (PictureScore("near", "größer"),)}),
    ):
        assert "größer" in plan_layout(more).small.sample


def test_other_alphabets_get_a_font_that_has_them() -> None:
    assert font_file("plain ASCII, 'quotes'") is None
    assert font_file("стиль") is not None
    cyrillic = Lettering(20, "ж")
    assert bytes(cyrillic.font.getmask("ж")) != bytes(cyrillic.font.getmask("\uffff"))
