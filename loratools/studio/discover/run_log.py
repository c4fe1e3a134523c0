"""A run's log, read as it grows: only what was appended since the last look, and at most so many points kept."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_MOST_POINTS = 2_000  # of a curve; beyond, neighbours are averaged
_RECENT = 50  # steps that the rate is measured over
_HEAD = 64 * 1024  # bytes of a log's first line that are looked at
_PIECE = 4 * 1024 * 1024  # bytes read at once; longer than any line


@dataclass
class Curve:
    """Values at rising places, of which at most :data:`_MOST_POINTS` are kept: each is then the mean of several."""

    points: list[tuple[float, float]] = field(default_factory=list)
    each: int = 1  # values a point stands for
    _waiting: list[tuple[float, float]] = field(default_factory=list)

    def add(self, at: float, value: float) -> None:
        """Append a value."""
        self._waiting.append((at, value))
        if len(self._waiting) < self.each:
            return
        self.points.append(_mean(self._waiting))
        self._waiting = []
        if len(self.points) > _MOST_POINTS:
            self.points = [_mean(self.points[n : n + 2]) for n in range(0, len(self.points), 2)]
            self.each *= 2

    def all(self) -> list[tuple[float, float]]:
        """The points, and the values that do not make one yet."""
        return [*self.points, *([_mean(self._waiting)] if self._waiting else [])]


class RunLog:
    """What ``NAME.jsonl`` says so far.

    Attributes:
        settings: the run's config, empty before its first line is read.
        steps: optimiser steps of the whole run, None where the log does not say.
        step: the last step that is logged.
        epochs: of the whole run.
        epoch_files: number -> the file's name, as the log says.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._read, self._inode = 0, -1
        self.settings: Mapping[str, Any] = {}
        self.owner = ""
        self.steps: int | None = None
        self.step, self.epoch = 0, 0
        self.loss, self.validation = Curve(), Curve()
        self.epoch_loss: dict[int, float] = {}
        self.epoch_steps: dict[int, int] = {}
        self._by_step: dict[int, float] = {}
        self._seconds: list[float] = []

    @property
    def epochs(self) -> int | None:
        """Epochs that the run was asked for."""
        value = self.settings.get("epochs")
        return value if isinstance(value, int) else None

    @property
    def finished(self) -> bool:
        """Whether its last epoch is written."""
        return self.epochs is not None and max(self.epoch_loss, default=0) >= self.epochs

    @property
    def rate(self) -> float | None:
        """Steps a second over the last :data:`_RECENT` steps."""
        spent = sum(self._seconds)
        return len(self._seconds) / spent if spent > 0 else None

    @property
    def validation_points(self) -> list[tuple[float, float]]:
        """Validation losses by epoch, those within an epoch at its part; before the first step at 0."""
        per_epoch = self.steps / self.epochs if self.steps and self.epochs else None
        ends = {step: float(epoch) for epoch, step in self.epoch_steps.items()}
        places = {step: ends.get(step, step / per_epoch if per_epoch else float(step)) for step in self._by_step}
        return sorted((places[step], value) for step, value in self._by_step.items())

    def refresh(self) -> bool:
        """Read what was appended; whether there was anything. A log that was replaced is read from its beginning."""
        try:
            with open(self.path, "rb") as stream:
                facts = os.fstat(stream.fileno())
                if facts.st_ino != self._inode or facts.st_size < self._read:
                    self._begin_anew()
                    self._inode = facts.st_ino
                before = self._read
                stream.seek(self._read)
                while (content := stream.read(_PIECE)) and (end := content.rfind(b"\n") + 1):
                    for line in content[:end].splitlines():
                        self._take(line)
                    self._read += end  # the last line may be half written
                    stream.seek(self._read)
        except OSError:
            return False
        return self._read > before

    def _take(self, line: bytes) -> None:
        try:
            record = json.loads(line)
        except ValueError:
            return  # the line that a kill cut short
        if not isinstance(record, dict):
            return
        kind, step, loss = record.get("kind"), record.get("step"), record.get("loss")
        if kind == "run":
            self.settings = record.get("settings") or {}
            self.owner = str(record.get("owner") or "")
            self.steps = record.get("steps") if isinstance(record.get("steps"), int) else None
        elif isinstance(step, int) and isinstance(loss, float | int) and math.isfinite(loss):
            self._take_loss(str(kind), step, float(loss), record)

    def _take_loss(self, kind: str, step: int, loss: float, record: Mapping[str, Any]) -> None:
        if kind == "step":
            self.step, self.epoch = step, int(record.get("epoch") or 0)
            self.loss.add(step, loss)
            if isinstance(seconds := record.get("seconds"), float | int) and seconds > 0:
                self._seconds = [*self._seconds[1 - _RECENT :], float(seconds)]
        elif kind == "epoch" and isinstance(number := record.get("epoch"), int):
            self.epoch_loss[number], self.epoch_steps[number] = loss, step
        elif kind == "validation":
            self._by_step[step] = loss


def is_run_log(path: Path) -> bool:
    """Whether a ``.jsonl`` is a run's log: its first line says who trains."""
    try:
        with open(path, "rb") as stream:
            first = stream.readline(_HEAD)
    except OSError:
        return False
    return first.startswith(b'{"kind": "run", "owner": "train:')


def _mean(points: list[tuple[float, float]]) -> tuple[float, float]:
    return (points[-1][0], math.fsum(value for _, value in points) / len(points))
