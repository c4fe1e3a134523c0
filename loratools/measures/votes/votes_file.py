"""``votes.json``: what a person saw as better, as ``grid.html`` exports it and ``select: votes`` reads it.

::

    {"format": "loratools votes 1",
     "grid": {"id": "9f2c...", "title": "..."},
     "saved": "2026-01-31T12:00:00.000Z",
     "cells": {KEY: {"at": {"adapter": "style@3", "weight": "0.75", "prompt": "...", "seed": "1"}, "file": "..."}},
     "stars": {KEY: 4},
     "pairs": [{"left": KEY, "right": KEY, "won": "left", "when": "2026-01-31T11:58:00.000Z"}]}

KEY is the cell's key in ``grid.json``, a hash of all that made the picture, so votes of several people and of a grid
rendered again can be put together. ``stars`` go from 1 to 5; ``won`` is ``left``, ``right`` or ``tie``;
``when`` keeps a file that is read twice from counting twice and may be left out. ``at`` names
the axes as the page does, and every key under ``stars`` and ``pairs`` stands under ``cells``.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from loratools.errors import FileError, FormatError
from loratools.validation import mistakes

FORMAT = "loratools votes 1"
_ROUNDS = 200
_POINTS = {"left": 1.0, "tie": 0.5, "right": 0.0}


@dataclass(frozen=True)
class Pair:
    """Two cells that were shown blind, and what the left one won: 1, 0.5 for a tie, or 0."""

    left: str
    right: str
    points: float


@dataclass(frozen=True)
class Votes:
    """The votes of one file; ``places`` says where a voted cell stands: its label on every axis, by key, and ``files``
    where its picture lies, from the grid's folder."""

    places: Mapping[str, Mapping[str, str]]
    stars: Mapping[str, int]
    pairs: tuple[Pair, ...]
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Standing:
    """How one candidate (its labels on the axes asked for) did.

    ``rating`` is its Bradley-Terry strength on Elo's scale: 0 is the average, +400 wins ten to one against it.
    ``stars`` is the mean of its stars, 0 where it has none.
    """

    at: tuple[str, ...]
    wins: float
    shown: int
    rating: float
    stars: float


@dataclass(frozen=True)
class VotedCell:
    """Where a voted cell stands: its label on every axis; and its picture, from the grid's folder."""

    at: dict[str, str]
    file: str = ""


@dataclass(frozen=True)
class PairRecord:
    """Two cells that were shown blind, and which one won."""

    left: str
    right: str
    won: Literal["left", "tie", "right"]


@dataclass(frozen=True)
class VotesRecord:
    """The file key by key."""

    format: str
    cells: dict[str, VotedCell]
    stars: dict[str, int]
    pairs: tuple[PairRecord, ...]


@cache
def _adapter() -> TypeAdapter[VotesRecord]:
    return TypeAdapter(VotesRecord)


def read_votes(path: Path) -> Votes:
    """The votes in ``path``.

    Raises:
        FileError: if it cannot be read.
        FormatError: if it is not what ``grid.html`` exports.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return _votes(content)
    except OSError as error:
        raise FileError(f"{path} is missing or unreadable; export it from grid.html with the key E") from error
    except ValueError as error:
        reason = _first(error, content) if isinstance(error, ValidationError) else str(error)
        raise FormatError(f"{path} is not a votes.json ({reason}); export it from grid.html with the key E") from error


def _first(error: ValidationError, content: Any) -> str:
    """The first mistake, with its place."""
    wrong = mistakes(error, content)[0]
    return ": ".join([*([".".join(map(str, wrong.place))] if wrong.place else []), wrong.message])


def _votes(content: Any) -> Votes:
    written = content.get("format") if isinstance(content, dict) else None
    if written != FORMAT:
        raise ValueError(f"its format is {written!r}, not '{FORMAT}'")
    record = _adapter().validate_python(content)
    pairs = tuple(Pair(pair.left, pair.right, _POINTS[pair.won]) for pair in record.pairs)
    for key in [*record.stars, *(key for pair in pairs for key in (pair.left, pair.right))]:
        if key not in record.cells:
            raise ValueError(f"the cell {key[:12]} has votes but no place under 'cells'")
    if wrong := next((value for value in record.stars.values() if not 1 <= value <= 5), None):
        raise ValueError(f"{wrong} stars, where 1 to 5 are meant")
    files = {key: cell.file for key, cell in record.cells.items() if cell.file}
    return Votes({key: cell.at for key, cell in record.cells.items()}, record.stars, pairs, files)


def standings(votes: Votes, axes: Sequence[str]) -> list[Standing]:
    """The candidates that ``axes`` tell apart, best first: by rating, then by stars.

    ``["adapter"]`` asks which epoch was liked best over all weights and prompts; ``["adapter", "weight"]`` which cell.

    Raises:
        FormatError: if there is no vote, or an axis that the voted cells do not have.
    """
    if not votes.stars and not votes.pairs:
        raise FormatError("there are no votes yet; give stars or judge pairs in grid.html, then export them with E")
    names = {key: _place(place, axes) for key, place in votes.places.items()}
    games = [(names[pair.left], names[pair.right], pair.points) for pair in votes.pairs]
    games = [game for game in games if game[0] != game[1]]
    stars: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for key, value in votes.stars.items():
        stars[names[key]].append(value)
    wins: dict[tuple[str, ...], float] = defaultdict(float)
    shown: dict[tuple[str, ...], int] = defaultdict(int)
    for left, right, points in games:
        wins[left] += points
        wins[right] += 1 - points
        shown[left] += 1
        shown[right] += 1
    rating = _ratings(games, wins)
    candidates = [
        Standing(at, wins[at], shown[at], rating.get(at, 0.0), sum(stars[at]) / len(stars[at]) if stars[at] else 0.0)
        for at in dict.fromkeys([*rating, *stars])
    ]
    return sorted(candidates, key=lambda standing: (-round(standing.rating, 6), -standing.stars, standing.at))


@dataclass(frozen=True)
class Marks:
    """What a sheet marks: stars by a picture's key, and the winner's key (empty where nobody has voted)."""

    stars: Mapping[str, int]
    winner: str = ""


def read_marks(path: Path) -> Marks:
    """The marks of the votes in ``path``; none where there is no such file.

    Raises:
        FormatError: if it is not what ``grid.html`` exports.
    """
    if not path.is_file():
        return Marks({})
    votes = read_votes(path)
    if not votes.stars and not votes.pairs:
        return Marks({})
    single = Votes({key: {"key": key} for key in votes.places}, votes.stars, votes.pairs)
    return Marks(votes.stars, standings(single, ["key"])[0].at[0])


def _place(place: Mapping[str, str], axes: Sequence[str]) -> tuple[str, ...]:
    if lost := next((axis for axis in axes if axis not in place), None):
        raise FormatError(f"the votes know no axis '{lost}'; theirs are: {', '.join(place)}")
    return tuple(place[axis] for axis in axes)


def _ratings(
    games: Iterable[tuple[tuple[str, ...], tuple[str, ...], float]], wins: Mapping[tuple[str, ...], float]
) -> dict[tuple[str, ...], float]:
    """Bradley-Terry strengths by Hunter's MM iteration (2004), on Elo's scale.

    Each candidate also ties once with an average one, so that an unbeaten one stays finite. ``grid.html`` computes
    the same in ``votes.js``.
    """
    met: dict[tuple[str, ...], list[tuple[str, ...]]] = defaultdict(list)
    for left, right, _ in games:
        met[left].append(right)
        met[right].append(left)
    strength = dict.fromkeys(met, 1.0)
    for _ in range(_ROUNDS):
        strength = {
            one: (wins[one] + 0.5) / (1 / (mine + 1) + math.fsum(1 / (mine + strength[other]) for other in met[one]))
            for one, mine in strength.items()
        }
    return {one: 400 * math.log10(value) for one, value in strength.items()}
