"""``/api/jobs``: the queue."""

from __future__ import annotations

from starlette.requests import Request
from starlette.routing import Route

from loratools.studio.api.jobs import (
    EpochsJob,
    GridJob,
    Job,
    JobDo,
    JobLog,
    JobRequest,
    RecipeJob,
    ResumeJob,
    TrainJob,
)
from loratools.studio.api.stacks import Started
from loratools.studio.api.words import problem
from loratools.studio.context import Studio
from loratools.studio.handlers import job_commands
from loratools.studio.handlers.answers import get, post
from loratools.studio.jobs.commands import Command


def jobs(studio: Studio, request: Request) -> list[Job]:
    """Every job, in the queue's order."""
    return [studio.job(record) for record in studio.queue.jobs()]


def job(studio: Studio, request: Request) -> Job:
    """One job."""
    return studio.job(studio.queue.job(request.path_params["id"]))


def add(studio: Studio, request: Request, body: JobRequest) -> Job:
    """Put a job into the queue."""
    return studio.job(studio.queue.add(_command(studio, body)))


def shown(studio: Studio, request: Request, body: JobRequest) -> Started:
    """What a job would run; nothing is queued."""
    command = _command(studio, body)
    return Started(command=command.text, step=command.step, job=None)


def do(studio: Studio, request: Request, body: JobDo) -> Job:
    """Pause, go on, stop, move or remove a job."""
    record = studio.queue.job(request.path_params["id"])
    shown = studio.job(record)
    changed = studio.queue.do(record.id, body.do)
    return shown if body.do == "remove" else studio.job(changed)


def log(studio: Studio, request: Request) -> JobLog:
    """Lines of a job's log."""
    after = request.query_params.get("after", "0")
    if not (after.isascii() and after.isdigit() and len(after) < 16):
        raise problem("job.line")
    return studio.queue.log(request.path_params["id"], int(after))


def _command(studio: Studio, body: JobRequest) -> Command:
    match body:
        case TrainJob():
            return job_commands.train(studio, body)
        case ResumeJob():
            return job_commands.resume(studio, body)
        case GridJob():
            return job_commands.grid(studio, body)
        case EpochsJob():
            return job_commands.epochs(studio, body)
        case RecipeJob():
            return job_commands.recipe(studio, body)


ROUTES: list[Route] = [
    get("/api/jobs", jobs),
    post("/api/jobs", JobRequest, add),
    post("/api/jobs/command", JobRequest, shown),
    get("/api/jobs/{id}", job),
    post("/api/jobs/{id}", JobDo, do),
    get("/api/jobs/{id}/log", log),
]
