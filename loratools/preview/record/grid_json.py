"""``grid.json`` key by key, its format, and what older versions wrote; read by pydantic into these dataclasses.

The text begins with ``"format": "loratools grid 1"``. Before that, records had no format; those whose rows do not say
how strong their LoRA is (``times``) are refused where more than the pictures' weights says it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from loratools.base.sampling.noise_kinds import OWN
from loratools.errors import FormatError
from loratools.preview.record.cells import SamplingSettings
from loratools.preview.record.grid import AxisInfo, Grid, Picture, PictureScore, RowInfo
from loratools.validation import mistakes
from loratools.version import __version__

FORMAT = "loratools grid 1"


@dataclass(frozen=True)
class BaseRecord:
    """A base model's name and digest."""

    name: str
    digest: str


@dataclass(frozen=True)
class BadgeRecord:
    """A short text under a cell."""

    row: int
    weight: float
    text: str


@dataclass(frozen=True, kw_only=True)
class SettingsRecord:
    """How pictures were sampled; ``size`` is [width, height]."""

    steps: int
    cfg: float
    sampler: str
    size: tuple[int, int]
    negative: str
    clip_skip: int
    noise: str = OWN
    frames: int = 0

    def settings(self) -> SamplingSettings:
        """The same, with the size as (height, width)."""
        width, height = self.size
        return SamplingSettings(
            steps=self.steps,
            cfg=self.cfg,
            sampler=self.sampler,
            size=(height, width),
            negative=self.negative,
            clip_skip=self.clip_skip,
            noise=self.noise,
            frames=self.frames,
        )


@dataclass(frozen=True, kw_only=True)
class PictureRecord:
    """One picture; see :class:`.grid.Picture`."""

    row: int
    weight: float
    prompt: int
    seed: int
    file: str
    key: str
    at: tuple[int, ...] = ()
    base: tuple[int, ...] | None = None
    settings: SettingsRecord | None = None
    model: tuple[str, str] | None = None
    embeddings: tuple[tuple[str, str], ...] = ()

    def picture(self) -> Picture:
        """The same as a grid holds it."""
        settings = self.settings.settings() if self.settings is not None else None
        place = (self.row, self.weight, self.prompt, self.seed, self.file, self.key, self.at, self.base)
        return Picture(*place, settings=settings, model=self.model, embeddings=self.embeddings)


@dataclass(frozen=True, kw_only=True)
class GridRecord(SettingsRecord):
    """The whole file; the settings are those of the pictures that say none of their own."""

    format: str | None = None
    version: str = ""
    owner: str
    title: str
    base: BaseRecord
    compute: str
    weights: tuple[float, ...]
    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    rows: tuple[RowInfo, ...]
    badges: tuple[BadgeRecord, ...]
    cells: tuple[PictureRecord, ...]
    axes: tuple[AxisInfo, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)
    captions: tuple[str, ...] = ()
    scores: dict[str, tuple[PictureScore, ...]] = field(default_factory=dict)

    def grid(self) -> Grid:
        """The same as a :class:`.grid.Grid`."""
        return Grid(
            owner=self.owner,
            title=self.title,
            base=self.base.name,
            base_digest=self.base.digest,
            compute=self.compute,
            rows=self.rows,
            weights=self.weights,
            prompts=self.prompts,
            seeds=self.seeds,
            settings=self.settings(),
            pictures=tuple(cell.picture() for cell in self.cells),
            badges={(badge.row, badge.weight): badge.text for badge in self.badges},
            axes=self.axes,
            labels=self.labels,
            captions=self.captions,
            scores=self.scores,
        )


@cache
def _adapter() -> TypeAdapter[GridRecord]:
    return TypeAdapter(GridRecord)


def grid_from_json(text: str) -> Grid:
    """The grid that ``text`` records.

    Raises:
        FormatError: if it is no such text, or of a version that does not say enough or that is not known yet; the
            message lacks the file's name at its start.
    """
    try:
        content = json.loads(text)
    except ValueError as error:
        raise FormatError(f"is not a grid's record ({error}); render the grid again") from error
    written = content.get("format") if isinstance(content, dict) else None
    if written not in (None, FORMAT):
        raise FormatError(
            f"is of the format '{written}', and this version of loratools reads '{FORMAT}'; update loratools, or "
            "render the grid again"
        )
    try:
        grid = _adapter().validate_python(content).grid()
    except ValidationError as error:
        wrong = mistakes(error, content)[0]
        place = ".".join(str(part) for part in wrong.place)
        raise FormatError(
            f"is not a grid's record ({place + ': ' if place else ''}{wrong.message}); render the grid again"
        ) from error
    if written is None and _lacks_strengths(content) and _varies_strength(grid):
        raise FormatError(
            "was written by a version that did not say how strong each row's LoRA is; render the grid again, its "
            "pictures are used again"
        )
    return grid


def _lacks_strengths(content: Mapping[str, Any]) -> bool:
    """Whether no row says how strong its LoRA is, as before that was kept."""
    return not any("times" in row for row in content["rows"])


def _varies_strength(grid: Grid) -> bool:
    """Whether more than the pictures' weights says how strong rows are: tags in prompts, or axes of a stack's parts."""
    parts = any(axis.kind in ("te", "unet") or (axis.kind == "weight" and " of " in axis.name) for axis in grid.axes)
    return parts or any("<lora:" in row.label.lower() or "<lyco:" in row.label.lower() for row in grid.rows)


def grid_to_json(grid: Grid) -> str:
    """``grid.json``'s text: sizes as [width, height], files relative to its folder with forward slashes."""
    more = {
        "axes": [asdict(axis) for axis in grid.axes],
        "labels": dict(grid.labels),
        "captions": grid.captions,
        "scores": {key: [asdict(score) for score in own] for key, own in grid.scores.items()},
    }
    content = {
        "format": FORMAT,
        "version": __version__,
        "owner": grid.owner,
        "title": grid.title,
        "base": {"name": grid.base, "digest": grid.base_digest},
        "compute": grid.compute,
        **_settings_json(grid.settings),
        "weights": grid.weights,
        "prompts": grid.prompts,
        "seeds": grid.seeds,
        "rows": [asdict(row) for row in grid.rows],
        "badges": [{"row": row, "weight": weight, "text": text} for (row, weight), text in grid.badges.items()],
        **{key: value for key, value in more.items() if value},
        "cells": [_picture_json(picture) for picture in grid.pictures],
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _picture_json(picture: Picture) -> dict[str, Any]:
    """A picture's fields, those of a plain grid's pictures alone where there is no more to say."""
    fields = asdict(picture)
    if picture.settings is not None:
        fields["settings"] = _settings_json(picture.settings)
    return {key: value for key, value in fields.items() if value not in ((), None)}


def _settings_json(settings: SamplingSettings) -> dict[str, Any]:
    return {**settings.facts(), "size": [settings.size[1], settings.size[0]]}
