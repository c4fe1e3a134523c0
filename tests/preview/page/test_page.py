from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from loratools.errors import FileError, FormatError
from loratools.measures.votes.votes_file import FORMAT, read_votes, standings
from loratools.preview.page import draw_page, write_page
from tests.preview.page.pages import EVIL, page_grid


def page_data(page: str) -> dict[str, Any]:
    match = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    assert match
    return dict(json.loads(match[1]))


def test_the_page_has_every_picture_once_and_every_cell(tmp_path: Path) -> None:
    grid = page_grid(tmp_path)
    data = page_data(draw_page(grid))
    assert [axis["name"] for axis in data["axes"]] == ["weight", "adapter", "prompt", "seed"]
    assert [axis["held"] for axis in data["axes"]] == [False, False, True, True]  # blind pairs have the same of these
    assert len(data["cells"]) == 12 and len(data["sources"]) == 10  # the base's two pictures serve both rows
    for cell in data["cells"]:
        weight, row, prompt, _ = cell["at"]
        assert data["sources"][cell["file"]] == f"cells/{row if weight else 'base'}_{weight}%20{prompt}.png"
        assert cell["base"] == [0, row, prompt, 0]
        assert ("<lora:ink" in cell["parameters"]) == bool(weight)
        assert cell["badge"] == ("0.93" if (row, weight) == (0, 2) else "")


def test_the_page_is_one_file_that_asks_for_nothing_else_and_runs_no_other_script(tmp_path: Path) -> None:
    page = draw_page(page_grid(tmp_path))
    assert not re.search(r"""https?://|<link|@import|src=["']""", page)
    assert "{{" not in page
    script = page[page.rindex("<script>") + 8 : page.rindex("</script>")]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page


def test_no_text_of_the_user_becomes_markup(tmp_path: Path) -> None:
    grid = page_grid(tmp_path, labels=(EVIL, "b"))
    page = draw_page(replace(grid, title=EVIL, prompts=(EVIL, "b"), badges={(0, 1.0): EVIL}))
    assert page.count("</script>") == 2 and "<img src=x" not in page
    data = page_data(page)
    assert data["title"] == data["axes"][1]["values"][0]["label"] == data["axes"][2]["values"][0]["label"] == EVIL


def test_embedded_pictures_are_the_files(tmp_path: Path) -> None:
    grid = page_grid(tmp_path)
    write_page(tmp_path, grid, embed=True)
    data = page_data((tmp_path / "grid.html").read_text(encoding="utf-8"))
    for cell in data["cells"]:
        head, content = data["sources"][cell["file"]].split(",", 1)
        assert head == "data:image/png;base64"
        assert base64.b64decode(content) == (tmp_path / cell["file"]).read_bytes()
    (tmp_path / grid.pictures[0].file).unlink()
    with pytest.raises(FileError, match="render the grid again"):
        draw_page(grid, embed=tmp_path)


def votes_file(folder: Path, pairs: str = "", stars: dict[str, int] | None = None) -> Path:
    """``pairs`` such as ``ab aa=``: winner and loser by one letter each, a tie with ``=``."""
    judged = [
        {"left": pair[0], "right": pair[1], "won": "tie" if pair.endswith("=") else "left"} for pair in pairs.split()
    ]
    cells = {key: {"at": {"adapter": f"ink@{key}", "weight": "1"}} for key in "abcx"}
    content = {"format": FORMAT, "cells": cells, "stars": stars or {}, "pairs": judged}
    path = folder / "votes.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_standings_rank_by_pairs_then_stars(tmp_path: Path) -> None:
    results = standings(read_votes(votes_file(tmp_path, "ab ab bc ba ac", {"x": 4})), ["adapter"])
    assert [one.at[0] for one in results] == ["ink@a", "ink@b", "ink@x", "ink@c"]  # x: an average rating, and stars
    a, b = results[:2]
    assert (a.wins, a.shown, b.wins, b.shown) == (3, 4, 2, 4)
    stars = standings(read_votes(votes_file(tmp_path, "", {"a": 3, "b": 5})), ["adapter", "weight"])
    assert [(one.at, one.stars) for one in stars] == [(("ink@b", "1"), 5.0), (("ink@a", "1"), 3.0)]


def test_ratings_solve_the_bradley_terry_equations(tmp_path: Path) -> None:
    results = {
        one.at[0][-1]: one for one in standings(read_votes(votes_file(tmp_path, "ab ab ba bc ac bc=")), ["adapter"])
    }
    strength = {key: 10 ** (one.rating / 400) for key, one in results.items()}
    games = [("a", "b"), ("a", "b"), ("b", "a"), ("b", "c"), ("a", "c"), ("b", "c")]
    for key, one in results.items():
        others = [right if left == key else left for left, right in games if key in (left, right)]
        mine = strength[key]
        expected = mine / (mine + 1) + sum(mine / (mine + strength[other]) for other in others)
        assert one.wins + 0.5 == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "votes 0"}, "its format is 'votes 0'"),
        ({"stars": {"lost": 3}}, "no place under 'cells'"),
        ({"stars": {"a": 9}}, "9 stars"),
        ({"pairs": [{"left": "a", "right": "b", "won": "both"}]}, "not a votes.json"),
        ({"cells": []}, "not a votes.json"),
    ],
)
def test_damaged_votes_are_told(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = votes_file(tmp_path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(FormatError, match=re.escape(message)):
        read_votes(path)


def test_missing_and_empty_votes_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="export it from"):
        read_votes(tmp_path / "none.json")
    with pytest.raises(FormatError, match="no votes yet"):
        standings(read_votes(votes_file(tmp_path)), ["adapter"])
    with pytest.raises(FormatError, match="theirs are: adapter, weight"):
        standings(read_votes(votes_file(tmp_path, "ab")), ["epoch"])


def test_a_value_that_is_called_otherwise_keeps_its_name_for_votes(tmp_path: Path) -> None:
    other = page_data(draw_page(page_grid(tmp_path).relabelled({"ink@1": "first"})))
    first, second = other["axes"][1]["values"]
    assert (first["label"], first["name"], second["label"], second["name"]) == ("first", "ink@1", "ink@2", "")
