"""``/api/grids``, ``/api/votes``, ``/api/marks``: grids on disk, blind pairs of their cells, and stars.

Votes are kept in ``votes.json`` in the grid's own folder, in the format that the grid's page exports, so that
``select: votes`` and the sheets read them.
"""

from __future__ import annotations

import json
import random
import threading
from collections import Counter
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.routing import Route

from loratools.adapter.files.epoch_files import labelled_epoch
from loratools.errors import FormatError, LoratoolsError, StudioError
from loratools.files import locked, write_text
from loratools.measures.votes.votes_file import FORMAT, Votes, read_votes, standings
from loratools.preview.page.view import view_grid
from loratools.preview.record.folder import read_grid
from loratools.preview.record.grid import Grid as GridRecord
from loratools.preview.record.grid import Picture
from loratools.studio.api.models import (
    Grid,
    GridCell,
    GridDetail,
    MarkAnswer,
    MarkRequest,
    Pair,
    Standing,
    VoteAnswer,
    VoteRequest,
)
from loratools.studio.api.words import problem
from loratools.studio.context import Studio
from loratools.studio.handlers.answers import get, post

VOTES = "votes.json"
_ADAPTER = "adapter"  # the axis that candidates are told apart by
_WON = {"left": "left", "right": "right", "none": "tie"}
_writing = threading.Lock()


def grids(studio: Studio, request: Request) -> list[Grid]:
    """Every grid, the newest first; one that cannot be read is left out."""
    shown = []
    for found in sorted(studio.index.now.grids, key=lambda own: -own.stamp.mtime_ns):
        try:
            shown.append(_grid(studio, found.path, read_grid(found.path)))
        except LoratoolsError:
            continue
    return shown


def grid(studio: Studio, request: Request) -> GridDetail:
    """One grid with its cells, how the votes stand, and the next pair."""
    folder = _folder(studio, request.path_params["id"])
    record = read_grid(folder)
    content = _read(folder, record)
    votes = _votes(folder)
    return GridDetail(
        grid=_grid(studio, folder, record),
        cells=[_cell(studio, folder, record, picture, content["stars"]) for picture in record.pictures],
        standings=_standings(votes),
        pair=_next_pair(studio, folder, record, content),
        pairs_seen=len(content["pairs"]),
    )


def vote(studio: Studio, request: Request, body: VoteRequest) -> VoteAnswer:
    """Keep which of two cells looked better."""
    folder = _folder(studio, body.grid)
    record = read_grid(folder)
    keys = {picture.key for picture in record.pictures}
    if body.left == body.right or not {body.left, body.right} <= keys:
        raise problem("vote.same")
    with _writing, locked(folder / "votes"):
        content = _read(folder, record)
        when = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        pair = {"left": body.left, "right": body.right, "won": _WON[body.winner], "when": when}
        content["pairs"].append(pair)
        _write(folder, record, content)
    return VoteAnswer(
        standings=_standings(_votes(folder)),
        pair=_next_pair(studio, folder, record, content),
        pairs_seen=len(content["pairs"]),
    )


def mark(studio: Studio, request: Request, body: MarkRequest) -> MarkAnswer:
    """Keep a picture's stars."""
    path = studio.roots.picture(body.picture)
    folder, record, picture = _in_grid(studio, path)
    with _writing, locked(folder / "votes"):
        content = _read(folder, record)
        content["stars"].pop(picture.key, None)
        if body.stars:
            content["stars"][picture.key] = body.stars
        _write(folder, record, content)
    return MarkAnswer(picture=body.picture, stars=body.stars)


def _folder(studio: Studio, grid_id: str) -> Path:
    folder = studio.roots.path(grid_id)
    if not (folder / "grid.json").is_file():
        raise problem("grid.none", status=404, name=folder.name)
    return folder


def _in_grid(studio: Studio, path: Path) -> tuple[Path, GridRecord, Picture]:
    """The grid that a picture is of."""
    for folder in path.parents:
        if studio.roots.root_of(folder) is None:
            break
        if (folder / "grid.json").is_file():
            record = read_grid(folder)
            picture = next((own for own in record.pictures if folder / own.file == path), None)
            if picture is not None:
                return folder, record, picture
    raise problem("stars.none", status=404, name=path.name)


def _grid(studio: Studio, folder: Path, record: GridRecord) -> Grid:
    root = studio.roots.root_of(folder)
    height, width = record.settings.size
    return Grid(
        id=studio.roots.id_of(folder),
        name=record.title or folder.name,
        root=root.id if root else "",
        path=studio.roots.shown(folder),
        rows=[record.called(row.label) for row in record.rows],
        weights=list(record.weights),
        prompts=list(record.prompts),
        seeds=list(record.seeds),
        size=(width, height),
        cells=len(record.pictures),
        changed=(folder / "grid.json").stat().st_mtime,
    )


def _cell(studio: Studio, folder: Path, record: GridRecord, picture: Picture, stars: dict[str, int]) -> GridCell:
    row = record.rows[picture.row]
    run = row.label.partition("@")[0].rpartition("-")[0] or row.label.partition("@")[0]
    return GridCell(
        row=picture.row,
        epoch=labelled_epoch(row.label, run),
        weight=picture.weight,
        prompt=picture.prompt,
        seed=picture.seed,
        picture=_picture_id(studio, folder, picture),
        key=picture.key,
        stars=stars.get(picture.key, 0),
    )


def _picture_id(studio: Studio, folder: Path, picture: Picture) -> str | None:
    """The id of a cell's file; None where it is missing, or points out of the roots."""
    try:
        return studio.roots.picture_id(folder / picture.file)
    except (OSError, StudioError):
        return None


def _votes(folder: Path) -> Votes | None:
    path = folder / VOTES
    return read_votes(path) if path.is_file() else None


def _standings(votes: Votes | None) -> list[Standing]:
    if votes is None or not (votes.pairs or votes.stars):
        return []
    axes = [_ADAPTER] if all(_ADAPTER in place for place in votes.places.values()) else []
    if not axes:
        return []
    return [
        Standing(row=own.at[0], wins=own.wins, shown=own.shown, rating=own.rating, stars=own.stars)
        for own in standings(votes, axes)
    ]


def _next_pair(studio: Studio, folder: Path, record: GridRecord, content: dict[str, Any]) -> Pair | None:
    """Two cells that differ in the LoRA alone, of the rows that were compared least; the sides at random."""
    groups: dict[tuple[Any, ...], list[Picture]] = {}
    for picture in record.pictures:
        if picture.weight != 0:
            groups.setdefault((picture.weight, picture.prompt, picture.seed, picture.settings), []).append(picture)
    pairs = [pair for group in groups.values() for pair in combinations(group, 2) if pair[0].row != pair[1].row]
    pairs = [pair for pair in pairs if pair[0].key != pair[1].key]
    if not pairs:
        return None
    asked = {frozenset((own["left"], own["right"])) for own in content["pairs"]}
    rows = {picture.key: picture.row for picture in record.pictures}
    shown = Counter(rows.get(key) for own in content["pairs"] for key in (own["left"], own["right"]))
    rng = random.Random(len(content["pairs"]))
    best = min(
        pairs,
        key=lambda pair: (
            frozenset(own.key for own in pair) in asked,
            sum(shown[own.row] for own in pair),
            rng.random(),
        ),
    )
    left, right = best if rng.random() < 0.5 else best[::-1]
    ids = [_picture_id(studio, folder, own) for own in (left, right)]
    if ids[0] is None or ids[1] is None:
        return None
    return Pair(left=left.key, right=right.key, left_picture=ids[0], right_picture=ids[1])


def _read(folder: Path, record: GridRecord) -> dict[str, Any]:
    """``votes.json`` of the grid as it lies there; an empty one where there is none.

    Raises:
        FormatError: if it is none.
    """
    path = folder / VOTES
    if not path.is_file():
        return {"format": FORMAT, "stars": {}, "pairs": [], "cells": {}}
    read_votes(path)  # raises where it is none
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise FormatError(f"{path} is not a votes.json")
    return content


def _write(folder: Path, record: GridRecord, content: dict[str, Any]) -> None:
    """Write the votes with the places of all cells that have one, as the grid's page exports them."""
    view = view_grid(record)
    wanted = {*content["stars"], *(own[side] for own in content["pairs"] for side in ("left", "right"))}
    cells = {key: cell for key, cell in content["cells"].items() if key in wanted}
    for shot in view.shots:
        if shot.key in wanted:
            at = {
                axis.name: axis.values[place].name or axis.values[place].label
                for axis, place in zip(view.axes, shot.at, strict=True)
            }
            cells[shot.key] = {"at": at, "file": shot.file}
    saved = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    whole = {**content, "grid": {"id": view.id, "title": view.title}, "saved": saved, "cells": cells}
    write_text(folder / VOTES, json.dumps(whole, indent=1, ensure_ascii=False) + "\n")


ROUTES: list[Route] = [
    get("/api/grids", grids),
    get("/api/grids/{id}", grid),
    post("/api/votes", VoteRequest, vote),
    post("/api/marks", MarkRequest, mark),
]
