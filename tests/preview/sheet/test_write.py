from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from loratools.errors import FormatError, GridError
from loratools.measures.votes.votes_file import FORMAT, Marks
from loratools.preview.judge.grid_verdicts import with_verdicts
from loratools.preview.record.folder import read_grid
from loratools.preview.record.grid import AxisInfo, Grid, PictureScore
from loratools.preview.redraw import redraw
from loratools.preview.request.options import SheetOptions
from loratools.preview.sheet import write
from loratools.preview.sheet.layout import Table, plan_layout
from loratools.preview.sheet.sheet import GOLD, STRIPS, draw_sheet, sheet_size
from loratools.preview.sheet.write import announce, cut, draw
from tests.preview.sheet.test_sheet import flat_grid


def keyed(folder: Path, **shape: int) -> Grid:
    grid = flat_grid(folder, **shape)
    return replace(grid, pictures=tuple(replace(p, key=f"k{n}") for n, p in enumerate(grid.pictures)))


def rgb(color: str) -> tuple[int, ...]:
    return tuple(int(color[i : i + 2], 16) for i in (1, 3, 5))


def three_axes(grid: Grid) -> Grid:
    """The same pictures with prompts across, weights down and rows as sub-grids."""
    axes = (
        AxisInfo("prompt", grid.prompts, "prompt", "x"),
        AxisInfo("weight", ("base", "0.5", "1"), "weight", "y"),
        AxisInfo("adapter", tuple(row.label for row in grid.rows), "adapter", "z"),
        AxisInfo("seed", tuple(map(str, grid.seeds)), "seed"),
    )
    placed = [
        replace(p, at=(p.prompt, (0.0, 0.5, 1.0).index(p.weight), p.row, p.seed), base=(p.prompt, 0, p.row, p.seed))
        for p in grid.pictures
    ]
    return replace(grid, axes=axes, pictures=tuple(placed))


def test_a_third_axis_makes_a_table_for_each_of_its_values(tmp_path: Path) -> None:
    grid = three_axes(flat_grid(tmp_path))
    table, layout, sheet = Table.of(grid), plan_layout(grid), draw_sheet(tmp_path, grid)
    assert table.parts == ("adapter style-000000", "adapter style-000001") and table.rows[0].base
    assert not any(column.base for column in table.columns) and table.corner == "weight ↓   prompt →"
    for picture in grid.pictures:
        x = layout.left(picture.at[0], picture.at[2]) + picture.seed * (layout.picture[0] + layout.inner) + 60
        y = layout.top(picture.at[1], picture.at[2]) + 60
        color = (60 + 40 * picture.row, 60 + 40 * picture.at[1], 60 + 50 * picture.prompt + 20 * picture.seed)
        assert sheet.getpixel((x, y)) == color
    draw(tmp_path, grid)
    assert read_grid(tmp_path) == grid


def test_a_huge_sheet_is_cut_into_files_that_join_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cut(20_000, 9_000, 65_500) == {(): (0, 0, 20_000, 9_000)}
    tiles = cut(40_000, 30_000, 16_383)
    assert all((r - x) * (b - y) <= 200_000_000 and r - x <= 16_383 for x, y, r, b in tiles.values())
    grid = flat_grid(tmp_path)
    monkeypatch.setattr(write, "_MOST", 300_000)
    said: list[str] = []
    drawn = SheetOptions(("png", "webp"), full=True)
    announce(tmp_path, grid, drawn, said.append)
    draw(tmp_path, grid, drawn)
    parts = {
        tuple(int(n) for n in path.stem.split("-")[1:]): np.asarray(Image.open(path))
        for path in tmp_path.glob("grid-*.png")
    }
    assert len(parts) > 1 and len(said) == 1 + 2 * len(parts) and all("pixels" in line for line in said)
    rows = [
        np.concatenate([parts[r, c] for c in sorted({c for _, c in parts})], axis=1)
        for r in sorted({r for r, _ in parts})
    ]
    assert np.array_equal(np.concatenate(rows), np.asarray(draw_sheet(tmp_path, grid)))


def test_other_formats_show_the_sheet(tmp_path: Path) -> None:
    grid = flat_grid(tmp_path, prompts=1, seeds=1)
    draw(tmp_path, grid, SheetOptions(("webp", "jpg"), embed=True))
    for name in ("webp", "jpg"):
        with Image.open(tmp_path / f"grid.{name}") as image:
            assert image.size == sheet_size(grid, plan_layout(grid))
            assert (
                np.abs(np.asarray(image.convert("RGB")).astype(int) - np.asarray(draw_sheet(tmp_path, grid))).mean() < 3
            )
    assert "data:image/png;base64" in (tmp_path / "grid.html").read_text(encoding="utf-8")
    with pytest.raises(GridError, match="'gif' is no format"):
        SheetOptions(("gif",))


def test_votes_mark_stars_and_the_winner(tmp_path: Path) -> None:
    grid = keyed(tmp_path, prompts=1, seeds=1)
    plain = draw_sheet(tmp_path, grid)
    layout = plan_layout(grid)
    left, top = layout.left(2), layout.top(0)
    votes = {
        "format": FORMAT,
        "cells": {key: {"at": {"adapter": key}} for key in ("k1", "k2")},
        "stars": {"k1": 3},
        "pairs": [{"left": "k2", "right": "k1", "won": "left"}],
    }
    (tmp_path / "votes.json").write_text(json.dumps(votes), encoding="utf-8")
    draw(tmp_path, grid)
    with Image.open(tmp_path / "grid.png") as image:
        assert image.size == plain.size
        assert image.getpixel((left - 2, top + 40)) == rgb(GOLD) and plain.getpixel((left - 2, top + 40)) != rgb(GOLD)
        corner = image.crop(
            (layout.left(1), top + layout.picture[1] - 14, layout.left(1) + 42, top + layout.picture[1])
        )
        assert rgb(GOLD) in {color for _, color in corner.getcolors(4096) or []}  # type: ignore[comparison-overlap]
    (tmp_path / "votes.json").write_text("{}")
    with pytest.raises(FormatError, match=r"votes\.json"):
        draw(tmp_path, grid)


def test_scores_are_strips_and_texts_under_cells(tmp_path: Path) -> None:
    grid = keyed(tmp_path, prompts=1, seeds=1)
    scored = replace(grid, scores={"k1": (PictureScore("tags", "75 %", 0.75), PictureScore("copy", "far"))})
    layout = plan_layout(scored)
    assert layout.strips == 1 and layout.badge and not plan_layout(grid).under
    sheet = draw_sheet(tmp_path, scored)
    y = layout.top(0) + layout.tile[1] + layout.strip - layout.strip // 2 + 1
    width = layout.tile[0]
    assert sheet.getpixel((layout.left(1) + width // 2, y)) == rgb(STRIPS[0])
    assert sheet.getpixel((layout.left(1) + width - 4, y)) != rgb(STRIPS[0])
    draw(tmp_path, scored)
    assert read_grid(tmp_path) == scored and "75 %" in (tmp_path / "grid.html").read_text(encoding="utf-8")


def test_a_grid_is_redrawn_with_other_words(tmp_path: Path) -> None:
    grid = flat_grid(tmp_path, prompts=1, seeds=1)
    old = replace(grid, rows=tuple(replace(row, verdict=("good", "of another version")) for row in grid.rows))
    draw(tmp_path, old)
    before = (tmp_path / "grid.png").read_bytes()
    drawn = redraw(
        tmp_path, options=SheetOptions(labels={"style-000001": "epoch one", "0.5": "half"}, captions=("why",))
    )
    assert (tmp_path / "grid.png").read_bytes() != before
    assert drawn.rows == with_verdicts(tmp_path, grid).rows != old.rows  # the test is made again
    assert [heading.label for heading in Table.of(drawn).columns] == ["base", "half", "1"]
    page = (tmp_path / "grid.html").read_text(encoding="utf-8")
    assert "epoch one" in page and '"half"' in page and "why" in page
    assert redraw(tmp_path).labels == drawn.labels  # kept until they are given anew
    assert redraw(tmp_path, options=SheetOptions(labels={"0.5": ""})).labels == {"style-000001": "epoch one"}
    with pytest.raises(FormatError, match=r"no axis has a value 'style-00001' \(did you mean 'style-000001'\?\)"):
        redraw(tmp_path, options=SheetOptions(labels={"style-00001": "x"}))
    assert Marks({}).winner == ""


def test_the_page_carries_its_pictures_while_they_are_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grid = keyed(tmp_path, rows=2)
    size = sum(path.stat().st_size for path in (tmp_path / "cells").rglob("*.png"))
    for room, embed, carried in (
        (size, None, True),
        (size - 1, None, False),
        (size - 1, True, True),
        (size, False, False),
    ):
        monkeypatch.setattr("loratools.preview.sheet.write._CARRIED", room)
        draw(tmp_path, grid, SheetOptions(embed=embed))
        assert ("data:image/png" in (tmp_path / "grid.html").read_text(encoding="utf-8")) == carried, (room, embed)
