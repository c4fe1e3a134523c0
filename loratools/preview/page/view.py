"""A grid as the page's script reads it: axes with their values, and cells by their place on every axis."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loratools.preview.record.grid import Grid, Picture, PictureScore, RowInfo

_HELD = ("prompt", "negative", "seed", "size")  # kinds of axes


@dataclass(frozen=True)
class Value:
    """One value of an axis.

    Args:
        label: as it is shown.
        note: small text under the label.
        tip: the text shown while the pointer is over it.
        name: the value's own name, under which votes are kept, where ``label`` is another one; else empty.
    """

    label: str
    note: str = ""
    tip: str = ""
    name: str = ""


@dataclass(frozen=True)
class PageAxis:
    """An axis of the page; ``held`` says that two cells shown for comparison have the same value on it, as of seeds."""

    name: str
    values: tuple[Value, ...]
    held: bool = False


@dataclass(frozen=True)
class Shot:
    """One picture: ``at`` is its index on every axis, ``base`` that of the base's picture that it is compared with.

    ``verdict`` is a pair of a level (``good``, ``under``, ``over`` or ``note``) and a short text.
    """

    at: tuple[int, ...]
    file: str
    key: str
    base: tuple[int, ...] | None
    parameters: str
    badge: str = ""
    verdict: tuple[str, str] | None = None
    scores: tuple[PictureScore, ...] = ()


@dataclass(frozen=True)
class View:
    """All that the page shows. The first axis runs across, the second down, the others are pages or tiles.

    ``size`` is (width, height) of the pictures in pixels; ``id`` keeps the votes of different grids apart. ``pairs``
    are keys of cells that the page asks to compare, in this order, by the ``question``; without any, blind pairs are
    drawn at random.
    """

    title: str
    about: tuple[str, ...]
    id: str
    size: tuple[int, int]
    axes: tuple[PageAxis, ...]
    shots: tuple[Shot, ...]
    pairs: tuple[tuple[str, str], ...] = ()
    question: str = ""

    @property
    def files(self) -> list[str]:
        """The pictures' files, each once."""
        return list(dict.fromkeys(shot.file for shot in self.shots))

    def content(self) -> dict[str, Any]:
        """The page's JSON, beside the sources of its pictures by file."""
        return {
            "title": self.title,
            "about": self.about,
            "id": self.id,
            "size": self.size,
            "axes": [
                {"name": axis.name, "held": axis.held, "values": [vars(value) for value in axis.values]}
                for axis in self.axes
            ],
            "pairs": self.pairs,
            "question": self.question,
            "cells": [{**vars(shot), "scores": [vars(score) for score in shot.scores]} for shot in self.shots],
        }


def view_grid(grid: Grid) -> View:
    """The view of a grid: its axes as they stand, with the rows' notes and provenance where rows stand on one."""
    rows = {row.label: row for row in grid.rows}
    axes = tuple(
        PageAxis(
            axis.name,
            tuple(_value(grid, label, rows if axis.kind == "adapter" else {}) for label in axis.labels),
            axis.kind in _HELD,
        )
        for axis in grid.shown
    )
    identity = "\0".join([grid.owner, grid.title, grid.base_digest])
    sizes = [grid.settings_of(picture).size for picture in grid.pictures] or [grid.settings.size]
    height, width = max(size[0] for size in sizes), max(size[1] for size in sizes)
    return View(
        grid.title,
        _about(grid),
        hashlib.sha256(identity.encode()).hexdigest()[:16],
        (width, height),
        axes,
        tuple(_shot(grid, picture) for picture in grid.pictures),
    )


def _value(grid: Grid, label: str, rows: Mapping[str, RowInfo]) -> Value:
    row = rows.get(label)
    called = grid.called(label)
    name = label if called != label else ""
    return Value(called, row.under, row.provenance[:500] or row.digest, name) if row else Value(called, name=name)


def _shot(grid: Grid, picture: Picture) -> Shot:
    badge = grid.badges.get((picture.row, picture.weight), "")
    row, at, base = grid.rows[picture.row], grid.place(picture), grid.base_place(picture)
    judged = picture.weight != 0 and at != base and not grid.headed(row)
    return Shot(
        at=at,
        file=picture.file,
        key=picture.key,
        base=base,
        parameters=_parameters(grid, picture),
        badge=badge,
        verdict=row.verdict if judged else None,
        scores=grid.scores.get(picture.key, ()),
    )


def _parameters(grid: Grid, picture: Picture) -> str:
    """The same text that the picture's file carries."""
    row, settings = grid.rows[picture.row], grid.settings_of(picture)
    loras = row.loras if picture.weight else ()
    model = picture.model or (grid.base, grid.base_digest)
    prompt = grid.prompts[picture.prompt]
    return settings.infotext(prompt, picture.seed, model, loras, picture.weight, picture.embeddings)


def _about(grid: Grid) -> tuple[str, ...]:
    one = [f"prompt: {grid.prompts[0]}"] if len(grid.prompts) == 1 else []
    seeds: Sequence[str] = [f"seed: {grid.seeds[0]}"] if len(grid.seeds) == 1 else []
    negative = [f"negative: {grid.settings.negative}"] if grid.settings.negative else []
    return (*grid.captions, *grid.aside, *one, *negative, *seeds)
