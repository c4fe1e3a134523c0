"""The contract of the studio's queue of jobs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from loratools.studio.api.base import Wire
from loratools.studio.api.models import Finite, Id, JobAction, JobState
from loratools.studio.api.words import Words


class Progress(Wire):
    """How far a job is: ``done`` of ``total`` in ``unit`` (``step``, ``picture``, ``module``)."""

    done: int = 0
    total: int | None = None
    unit: str = ""
    left_seconds: float | None = None
    note: str = ""


class Job(Wire):
    """A job of the queue; times in seconds since 1970. ``says`` is the title in words that the page has. ``results``
    are ids of what it wrote (LoRAs, runs, grids); of a job that judges epochs that of their run, too. ``asks``: it is
    paused, and pairs of pictures wait to be chosen from (``/api/jobs/{id}/round``)."""

    id: str
    kind: str
    title: str
    says: Words
    state: JobState
    heavy: bool
    progress: Progress
    command: str
    step: str
    created: float
    started: float | None
    ended: float | None
    error: Words | None
    results: list[str]
    position: int
    can: list[JobAction]
    asks: bool = False


class TrainJob(Wire):
    """Train a LoRA on a folder below the roots; ``more`` are other settings of ``loratools train``."""

    kind: Literal["train"]
    base: Id
    images: Id
    root: Id
    name: Annotated[str, Field(min_length=1, max_length=80)]
    more: dict[str, str | Finite | bool | int] = Field(default_factory=dict)


class ResumeJob(Wire):
    """Go on with a run that was stopped, to the byte; ``epochs`` makes it longer."""

    kind: Literal["resume"]
    run: Id
    epochs: Annotated[int, Field(ge=1, le=10_000)] | None = None


class GridJob(Wire):
    """Draw a grid of epochs x weights of a run, or of LoRA files."""

    kind: Literal["grid"]
    base: Id
    rows: Annotated[list[Id], Field(min_length=1, max_length=200)]
    weights: Annotated[str, Field(max_length=200)] = "0:1:0.25"
    prompts: Annotated[list[Annotated[str, Field(max_length=10_000)]], Field(min_length=1, max_length=100)]
    negative: Annotated[str, Field(max_length=10_000)] = ""
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**63)], ...] = (1,)
    steps: Annotated[int, Field(ge=1, le=200)] | None = None
    cfg: Finite | None = None
    root: Id
    name: Annotated[str, Field(min_length=1, max_length=80)]


class EpochsJob(Wire):
    """Draw and measure a run's epochs, and write its verdict."""

    kind: Literal["epochs"]
    run: Id
    base: Id
    prompts: tuple[Annotated[str, Field(max_length=10_000)], ...] = ()
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**63)], ...] = ()


class RecipeJob(Wire):
    """Run a recipe as it is now, or one of its steps and what that needs."""

    kind: Literal["recipe"]
    recipe: Id
    only: str | None = None


JobRequest = Annotated[TrainJob | ResumeJob | GridJob | EpochsJob | RecipeJob, Field(discriminator="kind")]
"""``POST /api/jobs``; ``POST /api/jobs/command`` only answers what it would run."""


class JobDo(Wire):
    """``POST /api/jobs/{id}``."""

    do: JobAction


class LogLine(Wire):
    """A line of a job's log; numbers rise by one."""

    number: int
    text: str


class JobLog(Wire):
    """``GET /api/jobs/{id}/log?after=N``: the lines after number N, at most 2,000; ``more`` says that others follow."""

    lines: list[LogLine]
    more: bool
