"""From a function of models to a route: bodies are read, answers written, and mistakes become one sentence."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

from pydantic import TypeAdapter, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from loratools.errors import FileError, LoratoolsError, StudioError
from loratools.studio.api.base import Wire
from loratools.studio.api.invalid import invalid
from loratools.studio.api.words import Failure, failure, failure_of, quoted_failure
from loratools.studio.context import Studio

Answer = Wire | list[Any] | Response
_INVALID, _CONFLICT, _BROKEN = 422, 409, 500


def get(path: str, handler: Callable[[Studio, Request], Answer]) -> Route:
    """A route that reads; ``handler`` runs on a thread, so that it may touch the disk."""

    async def endpoint(request: Request) -> Response:
        return await answered(handler, request.app.state.studio, request)

    return Route(path, endpoint, methods=["GET"], name=handler.__name__)


def post(path: str, body: Any, handler: Callable[[Studio, Request, Any], Answer]) -> Route:
    """A route that changes something; ``handler`` gets the request's JSON as the model ``body``."""
    adapter: TypeAdapter[Any] = TypeAdapter(body)

    async def endpoint(request: Request) -> Response:
        content = await request.body()
        try:
            value = adapter.validate_json(content)
        except ValidationError as error:
            return json_response(invalid(error), _INVALID)
        return await answered(handler, request.app.state.studio, request, value)

    return Route(path, endpoint, methods=["POST"], name=handler.__name__)


async def answered(handler: Callable[..., Answer], *given: Any) -> Response:
    """What ``handler`` answers, run on a thread; a mistake as :class:`.words.Failure`."""
    try:
        answer = await run_in_threadpool(handler, *given)
    except (LoratoolsError, OSError) as error:
        return failed(error)
    return answer if isinstance(answer, Response) else json_response(answer)


def json_response(answer: Wire | list[Any], status: int = 200) -> Response:
    """A model, or a list of them, as JSON; numbers that JSON lacks are null."""
    content = TypeAdapter(type(answer)).dump_json(answer) if isinstance(answer, list) else answer.model_dump_json()
    return Response(content, status, media_type="application/json")


def failed(error: Exception) -> Response:
    """An error as one sentence and what to do about it, with the status that fits."""
    if isinstance(error, StudioError):
        return json_response(failure_of(error), error.status)
    if isinstance(error, FileError):
        return json_response(quoted_failure(error), _CONFLICT)
    if isinstance(error, LoratoolsError):
        return json_response(quoted_failure(error), _INVALID)
    if isinstance(error, OSError):
        return json_response(_disk(error), _BROKEN)
    return json_response(failure("mistake", kind=type(error).__name__), _BROKEN)


def _disk(error: OSError) -> Failure:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return failure("disk.full")
    return failure("disk", error=error.strerror or type(error).__name__)
