"""A server over a folder, asked by Starlette's client as a browser would ask."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from starlette.testclient import TestClient, WebSocketTestSession

from loratools.studio.app import make_app
from loratools.studio.context import Options, Studio
from loratools.studio.roots import Roots
from loratools.studio.token import Secrets, cookie_name

PORT = 8123
HOST = f"127.0.0.1:{PORT}"
ORIGIN = f"http://{HOST}"


@dataclass(frozen=True)
class Served:
    """A studio and a client of it that has no session yet."""

    studio: Studio
    client: TestClient

    def sign_in(self) -> Served:
        """Exchange the token for the cookie."""
        answer = self.client.post("/api/session", json={"token": self.studio.secrets.token})
        assert answer.status_code == 200, answer.text
        return self

    def socket(self) -> WebSocketTestSession:
        """The websocket of a page with a session; the client itself would send another Host."""
        return self.client.websocket_connect("/api/live", headers={"host": HOST, "cookie": self.cookie})

    @property
    def cookie(self) -> str:
        """The header that a page with a session sends."""
        return f"{cookie_name(PORT)}={self.studio.secrets.cookie}"


def served(*folders: Path, page: Path | None = None, options: Options = Options()) -> Served:  # noqa: B008  (frozen)
    """A server over ``folders``; its client sends the Host and Origin of its own page."""
    secrets = Secrets()
    studio = Studio(PORT, secrets, Roots(folders, secrets), options)
    app = make_app(studio) if page is None else make_app(studio, page=page)
    return Served(studio, TestClient(app, base_url=ORIGIN, headers={"origin": ORIGIN}))
