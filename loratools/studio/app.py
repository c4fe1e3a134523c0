"""The ASGI app: routes behind the gate."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute

from loratools.studio.api.words import failure
from loratools.studio.context import Studio
from loratools.studio.gate import Gate, Hosts, Refusal
from loratools.studio.handlers import (
    evidence,
    grids,
    jobs,
    library,
    pictures,
    recipes,
    rounds,
    runs,
    session,
    stack,
    training,
    vectors,
)
from loratools.studio.handlers.answers import failed, json_response
from loratools.studio.live.socket import live_endpoint, live_service, make_engine

PAGE = Path(__file__).with_name("page") / "dist"
Endpoint = Callable[[Request], Awaitable[Response]]
_SUBJECTS = (evidence, rounds, session, library, runs, grids, pictures, recipes, vectors, stack, training, jobs)
_LOG = logging.getLogger(__name__)
_IMMUTABLE = {"cache-control": "public, max-age=31536000, immutable"}  # names hold a hash of what is in them
_NO_PAGE = """\
The page is not built in this copy of loratools: loratools/studio/page/dist is missing.
A package from PyPI has it. In a checkout, build it once: cd loratools/studio/page && npm ci && npm run build
"""


def make_app(studio: Studio, hosts: Hosts | None = None, page: Path = PAGE) -> Gate:
    """The whole server as an ASGI app.

    Args:
        hosts: the names that it answers to; those of this machine alone by default.
        page: the folder of the built page.
    """
    app = Starlette(
        routes=[
            Route("/healthz", _health),
            Route("/", _index(page)),
            Route("/assets/{name}", _asset(page)),
            *(route for subject in _SUBJECTS for route in subject.ROUTES),
            WebSocketRoute("/api/live", live_endpoint),
        ],
        exception_handlers={Refusal: _refused, HTTPException: _http_error, Exception: _broken},
        lifespan=_lifespan,
    )
    app.state.studio, app.state.live = studio, make_engine(studio.options)
    return Gate(app, hosts or Hosts(studio.port), studio.secrets)


@contextlib.asynccontextmanager
async def _lifespan(app: Starlette) -> AsyncIterator[None]:
    studio: Studio = app.state.studio
    studio.index.start()
    studio.queue.start()
    try:
        async with live_service(studio, app.state.live):
            yield
    finally:
        studio.queue.close()
        studio.norms.close()
        studio.measurer.close()
        studio.index.close()


async def _health(request: Request) -> Response:
    return PlainTextResponse("ok")


def _index(page: Path) -> Endpoint:
    async def index(request: Request) -> Response:
        file = page / "index.html"
        if not file.is_file():
            return PlainTextResponse(_NO_PAGE, 503)
        return FileResponse(file, media_type="text/html", headers={"cache-control": "no-cache"})

    return index


def _asset(page: Path) -> Endpoint:
    async def asset(request: Request) -> Response:
        name = request.path_params["name"]
        folder = page / "assets"
        if not folder.is_dir() or name not in {path.name for path in folder.iterdir()}:  # so it is no path
            raise HTTPException(404)
        return FileResponse(folder / name, headers=_IMMUTABLE)

    return asset


async def _refused(request: Request, error: Exception) -> Response:
    if not isinstance(error, Refusal):
        return failed(error)
    return json_response(error.failure, error.status)


async def _http_error(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    made = {404: failure("address.none"), 405: failure("address.other")}.get(status) or failure("request.unmet")
    return json_response(made, status)


async def _broken(request: Request, error: Exception) -> Response:
    _LOG.error("while answering %s %s", request.method, request.url.path, exc_info=error)
    return failed(error)
