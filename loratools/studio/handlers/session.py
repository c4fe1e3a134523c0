"""``POST /api/session``: the token of the printed address for a cookie."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from loratools.studio.api.models import Done, Session
from loratools.studio.api.words import problem
from loratools.studio.context import Studio
from loratools.studio.handlers.answers import json_response, post
from loratools.studio.token import cookie_name

_WRONG = 401


def begin(studio: Studio, request: Request, body: Session) -> Response:
    """Set the cookie, which scripts cannot read and other sites do not send."""
    if not studio.secrets.is_token(body.token):
        raise problem("session.other", status=_WRONG)
    answer = json_response(Done())
    answer.set_cookie(
        cookie_name(studio.port),
        studio.secrets.cookie,
        httponly=True,
        samesite="strict",
        path="/",
        secure=request.headers.get("origin", "").startswith("https:"),
    )
    return answer


ROUTES: list[Route] = [post("/api/session", Session, begin)]
