"""``grid.json``: its format, what is read back, and what is refused in one sentence."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from loratools.errors import FileError, FormatError
from loratools.preview.record.folder import read_grid, write_grid
from loratools.preview.record.grid import PictureScore
from loratools.preview.record.grid_json import FORMAT
from tests.preview.page.pages import page_grid


def rewritten(folder: Path, **changes: Any) -> None:
    """``grid.json`` with other values; None takes a key away."""
    path = folder / "grid.json"
    content = {**json.loads(path.read_text(encoding="utf-8")), **changes}
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}), encoding="utf-8")


def test_what_is_written_is_read_back_and_begins_with_its_format(tmp_path: Path) -> None:
    made = page_grid(tmp_path)
    made = replace(
        made, scores={made.pictures[0].key: (PictureScore("tags", "tags 50 %", 0.5), PictureScore("x", "1"))}
    )
    write_grid(tmp_path, made)
    assert next(iter(json.loads((tmp_path / "grid.json").read_text(encoding="utf-8")).items())) == ("format", FORMAT)
    assert read_grid(tmp_path) == made


def test_a_record_of_before_there_was_a_format_is_read(tmp_path: Path) -> None:
    made = page_grid(tmp_path)
    write_grid(tmp_path, made)
    rewritten(tmp_path, format=None)
    assert read_grid(tmp_path) == made


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"format": "loratools grid 2"},
            "is of the format 'loratools grid 2', .* update loratools, or render the grid",
        ),
        ({"rows": None}, r"is not a grid's record \(.*rows.*render the grid again"),
        ({"cells": [{"row": "first"}]}, r"is not a grid's record \(cells\.0"),
        ({"steps": "many"}, r"is not a grid's record \(steps: .*whole number"),
    ],
)
def test_what_cannot_be_read_is_told_with_its_place_and_what_to_do(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    write_grid(tmp_path, page_grid(tmp_path))
    rewritten(tmp_path, **changes)
    with pytest.raises(FormatError, match=rf"grid\.json {words}"):
        read_grid(tmp_path)


def test_no_record_and_no_json(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="render the grid first"):
        read_grid(tmp_path)
    for text in ("[]", "{", "\xff"):
        (tmp_path / "grid.json").write_text(text, encoding="latin-1")
        with pytest.raises(FormatError, match=r"is not a grid's record .*; render the grid again"):
            read_grid(tmp_path)
