"""A job as the queue's table has it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from loratools.studio.api.jobs import Job, Progress
from loratools.studio.api.models import JobAction, JobState
from loratools.studio.api.words import Words, english, plain, quoted, words

ACTIVE = ("running", "stopping")
Goal = Literal["", "paused", "stopped"]


@dataclass(frozen=True)
class JobRecord:
    """A job.

    Attributes:
        argv: what is run, after ``loratools``; ``go_on`` is added when it was stopped and goes on.
        heavy: whether it needs the device for itself.
        state: see :data:`.models.JobState`.
        goal: what it becomes once it has stopped as it was asked to.
        position: its place in the queue; lower ones come first.
        times: how often it was started.
        stops: how often it was asked to stop since it was started.
        results: paths that it writes.
        run: ``OUT/NAME`` of a training, or of the run whose epochs are judged.
        asks: whether it is paused until a person has answered.
        error_key: that of the error's words, in which ``error`` may stand as ``text``; empty where they are the
            command's own.
    """

    id: str
    kind: str
    title: str
    argv: tuple[str, ...]
    go_on: tuple[str, ...]
    cwd: str
    step: str
    heavy: bool
    state: JobState
    position: float
    created: float
    goal: Goal = ""
    times: int = 0
    stops: int = 0
    started: float | None = None
    ended: float | None = None
    error: str | None = None
    results: tuple[str, ...] = ()
    run: str = ""
    stop_file: str = ""
    recipe: str = ""
    recipe_digest: str = ""
    asks: bool = False
    error_key: str = ""

    def actions(self) -> list[JobAction]:
        """What a person may do with it now."""
        if self.state == "waiting":
            return ["pause", "up", "down", "remove"]
        if self.state == "running":
            return ["pause", "stop", *(["stop-after-epoch"] if self.stop_file else [])]  # type: ignore[list-item]
        if self.state == "stopping":
            return ["stop"]
        if self.state == "done":
            return ["remove"]
        return ["resume", "remove"]

    def job(self, command: str, progress: Progress, results: list[str], position: int) -> Job:
        """As the page sees it."""
        return Job(
            id=self.id,
            kind=self.kind,
            title=self.title,
            says=self._title(),
            state=self.state,
            heavy=self.heavy,
            progress=progress,
            command=command,
            step=self.step,
            created=self.created,
            started=self.started,
            ended=self.ended,
            error=self._failure(),
            results=results,
            position=position,
            can=self.actions(),
            asks=self.asks and self.state == "paused",
        )

    def _title(self) -> Words:
        """The title in words that have a key: what is done, to what it writes."""
        key = f"job.title.{self.kind}"
        name = next((Path(own).name for own in (self.run, self.recipe, *self.results) if own), "")
        return words(key, name=name) if name and key in english() else plain(self.title)

    def _failure(self) -> Words | None:
        if self.error is None:
            return None
        return words(self.error_key, text=self.error) if self.error_key else quoted(self.error)

    def row(self) -> dict[str, Any]:
        """As the table's columns."""
        lists = {name: json.dumps(getattr(self, name)) for name in _LISTS}
        return {**vars(self), **lists, "heavy": int(self.heavy), "asks": int(self.asks)}

    @staticmethod
    def of_row(row: dict[str, Any]) -> JobRecord:
        """From the table's columns."""
        lists = {name: tuple(json.loads(row[name])) for name in _LISTS}
        flags = {"heavy": bool(row["heavy"]), "asks": bool(row["asks"]), "error_key": row["error_key"] or ""}
        return JobRecord(**{**row, **lists, **flags})


_LISTS = ("argv", "go_on", "results")
COLUMNS = tuple(JobRecord.__dataclass_fields__)
