"""``/api/jobs``: the queue."""

from __future__ import annotations

from pathlib import Path

from starlette.requests import Request
from starlette.routing import Route

from loratools.errors import StudioError
from loratools.studio.api.jobs import (
    EpochsJob,
    GridJob,
    Job,
    JobDo,
    JobLog,
    JobRequest,
    QuestionAnswer,
    Questions,
    RecipeJob,
    ResumeJob,
    TrainJob,
)
from loratools.studio.api.models import Pair
from loratools.studio.context import Studio
from loratools.studio.handlers import job_commands
from loratools.studio.handlers.answers import get, post
from loratools.studio.jobs.commands import Command
from loratools.studio.jobs.questions import OpenRound, open_round
from loratools.studio.jobs.record import JobRecord


def jobs(studio: Studio, request: Request) -> list[Job]:
    """Every job, in the queue's order."""
    return [studio.job(record) for record in studio.queue.jobs()]


def job(studio: Studio, request: Request) -> Job:
    """One job."""
    return studio.job(studio.queue.job(request.path_params["id"]))


def add(studio: Studio, request: Request, body: JobRequest) -> Job:
    """Put a job into the queue."""
    return studio.job(studio.queue.add(_command(studio, body)))


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
        raise StudioError("after is the number of a line, 0 for all")
    return studio.queue.log(request.path_params["id"], int(after))


def questions(studio: Studio, request: Request) -> Questions:
    """The next pair that the job asks about."""
    record = studio.queue.job(request.path_params["id"])
    return _questions(studio, _round(record))


def answer(studio: Studio, request: Request, body: QuestionAnswer) -> Questions:
    """Keep a choice; the job goes on with the last one of its round."""
    record = studio.queue.job(request.path_params["id"])
    asked = _round(record)
    if asked is None:
        raise StudioError("this job asks nothing now", status=409, remedy="reload the page")
    asked = asked.answered(body.left, body.right, body.winner)
    if not asked.left and record.state == "paused":
        studio.queue.do(record.id, "resume")
    return _questions(studio, asked)


def _round(record: JobRecord) -> OpenRound | None:
    found = (open_round(Path(path)) for path in record.results)
    return next((own for own in found if own is not None), None)


def _questions(studio: Studio, asked: OpenRound | None) -> Questions:
    if asked is None or not asked.left:
        total = asked.total if asked else 0
        return Questions(question="", pair=None, done=total, total=total)
    left, right = asked.left[0]
    pair = Pair(
        left=left,
        right=right,
        left_picture=studio.roots.picture_id(asked.file(left)),
        right_picture=studio.roots.picture_id(asked.file(right)),
    )
    return Questions(question=asked.page.question, pair=pair, done=len(asked.answers), total=asked.total)


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
    get("/api/jobs/{id}", job),
    post("/api/jobs/{id}", JobDo, do),
    get("/api/jobs/{id}/log", log),
    get("/api/jobs/{id}/questions", questions),
    post("/api/jobs/{id}/questions", QuestionAnswer, answer),
]
