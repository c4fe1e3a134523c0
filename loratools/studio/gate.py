"""What stands before every request and websocket: is it this page, in this browser, that asks?

Any web page that a person visits can make the browser send requests to this machine, so the address 127.0.0.1 protects
from nobody. In order:

1. ``Host`` must be a name that the server was started for. A page that had its own name point to 127.0.0.1 (DNS
   rebinding) sends its own name, and a request by it passes every other check of origins.
2. Whatever holds data needs the cookie that was given for the token. The page's own files hold none.
3. ``Origin`` must be this server's on whatever changes something and on the websocket, and no request for data may
   come from another site or another port of this machine (``Sec-Fetch-Site``).
4. What is sent is JSON, which no form can send, and small.

Written as plain ASGI, so that the websocket passes through the same lines as HTTP.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from loratools.studio.api.words import Value, failure
from loratools.studio.token import Secrets, cookie_name

MOST_BYTES = 2 * 1024 * 1024  # of what the page sends
_READING = ("GET", "HEAD")
_OPEN_PATHS = ("/", "/healthz", "/favicon.ico")
_OPEN_FOLDER = "/assets/"
_SESSION = "/api/session"
_REFUSED = 1008  # a websocket's "policy violation"
_LOCAL = ("127.0.0.1", "localhost", "[::1]")


class Refusal(Exception):
    """Why a request does not pass: a status of HTTP, and the key of its words with their values."""

    def __init__(self, status: int, key: str, **values: Value) -> None:
        self.status, self.failure = status, failure(key, **values)
        super().__init__(self.failure.error)


@dataclass(frozen=True)
class Hosts:
    """The names that the server answers to.

    Attributes:
        port: that it listens on.
        names: given with ``--host``, besides those of this machine alone.
        any_address: also any numeric address: a name that was made to point here is none.
        proxies: whole ``Host`` headers that a proxy in front hands on, such as ``studio.example``.
    """

    port: int
    names: tuple[str, ...] = ()
    any_address: bool = False
    proxies: tuple[str, ...] = ()

    def allow(self, host: str) -> bool:
        """Whether a ``Host`` header names this server, with its exact port."""
        if host.lower() in (own.lower() for own in self.proxies):
            return True
        name, port = _split(host.lower())
        if port != self.port:
            return False
        if name in _LOCAL or name in (own.lower() for own in self.names):
            return True
        return self.any_address and _is_address(name)


@dataclass(frozen=True)
class Gate:
    """The app behind it hears only of what passes."""

    app: ASGIApp
    hosts: Hosts
    secrets: Secrets = field(repr=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        try:
            host = self._check(scope)
        except Refusal as refusal:
            await _refuse(scope, receive, send, refusal)
            return
        answer = _with_headers(send, host) if scope["type"] == "http" else send
        await self.app(scope, _limited(receive) if scope["type"] == "http" else receive, answer)

    def _check(self, scope: Scope) -> str:
        """The host asked for.

        Raises:
            Refusal: with the reason.
        """
        headers = _headers(scope)
        host = headers.one("host")
        if host is None or not self.hosts.allow(host):
            raise Refusal(403, "gate.host", port=self.hosts.port)
        path, method = scope["path"], scope.get("method", "GET")
        if scope["type"] == "http" and method in _READING and (path in _OPEN_PATHS or path.startswith(_OPEN_FOLDER)):
            return host
        socket = scope["type"] == "websocket"
        if socket or method not in _READING:
            _check_origin(headers.one("origin"), host)
        if headers.one("sec-fetch-site") in ("cross-site", "same-site"):
            raise Refusal(403, "gate.foreign")
        if not socket and method not in _READING:
            _check_body(headers)
        if path != _SESSION and not self._knows(headers):
            raise Refusal(401, "gate.session")
        return host

    def _knows(self, headers: _Headers) -> bool:
        """Whether the cookie of this server is among those sent."""
        own = cookie_name(self.hosts.port)
        return any(name == own and self.secrets.is_cookie(value) for name, value in _cookies(headers))


def _cookies(headers: _Headers) -> Iterator[tuple[str, str]]:
    """The cookies that were sent, as they are. Those of every other program on this machine are among them, and what
    they hold (JSON, say) is no reason to miss ours, as :class:`http.cookies.SimpleCookie` would."""
    for text in headers.all("cookie"):
        for part in text.split(";"):
            name, _, value = part.partition("=")
            yield name.strip(), value.strip()


def policy(host: str) -> str:
    """The Content-Security-Policy: everything from here, nothing from elsewhere, in nobody's frame."""
    return (
        "default-src 'self'; img-src 'self' blob:; "
        f"connect-src 'self' ws://{host} wss://{host}; "  # older Safari leaves the socket out of 'self'
        "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


@dataclass(frozen=True)
class _Headers:
    pairs: tuple[tuple[bytes, bytes], ...]

    def all(self, name: str) -> list[str]:
        key = name.encode()
        return [value.decode("latin-1") for own, value in self.pairs if own.lower() == key]

    def one(self, name: str) -> str | None:
        """Its value; None where it is missing, and where it stands twice, since others may read the other one."""
        values = self.all(name)
        return values[0] if len(values) == 1 else None


def _headers(scope: Scope) -> _Headers:
    return _Headers(tuple(scope["headers"]))


def _check_origin(origin: str | None, host: str) -> None:
    if origin is None or origin.lower() not in (f"http://{host.lower()}", f"https://{host.lower()}"):
        raise Refusal(403, "gate.foreign")


def _check_body(headers: _Headers) -> None:
    kind = (headers.one("content-type") or "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refusal(415, "gate.json")
    length = headers.one("content-length") or "0"
    if not length.isascii() or not length.isdigit():
        raise Refusal(400, "gate.length")
    if int(length) > MOST_BYTES:
        raise _too_much()


def _too_much() -> Refusal:
    return Refusal(413, "gate.much", mib=MOST_BYTES // 1024 // 1024)


def _limited(receive: Receive) -> Receive:
    """``receive`` that raises once more was sent than may be, whatever the header said."""
    seen = 0

    async def limited() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > MOST_BYTES:
            raise _too_much()
        return message

    return limited


def _with_headers(send: Send, host: str) -> Send:
    """``send`` that adds what keeps browsers from using an answer elsewhere."""
    fixed = (
        (b"content-security-policy", policy(host).encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"),
        (b"cross-origin-resource-policy", b"same-origin"),
        (b"cross-origin-opener-policy", b"same-origin"),
        (b"x-frame-options", b"DENY"),
    )

    async def with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *_default_cache(message), *fixed]}
        await send(message)

    return with_headers


def _default_cache(message: Message) -> Iterable[tuple[bytes, bytes]]:
    """Nothing is kept by a browser unless the answer says so."""
    if not any(name.lower() == b"cache-control" for name, _ in message.get("headers", ())):
        yield b"cache-control", b"no-store"


async def _refuse(scope: Scope, receive: Receive, send: Send, refusal: Refusal) -> None:
    if scope["type"] == "websocket":
        await receive()  # the request to connect; closing before accepting is an HTTP 403
        await send({"type": "websocket.close", "code": _REFUSED, "reason": refusal.failure.error})
        return
    body = refusal.failure.model_dump_json().encode()
    await _with_headers(send, "127.0.0.1")(
        {
            "type": "http.response.start",
            "status": refusal.status,
            "headers": [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())],
        }
    )
    await send({"type": "http.response.body", "body": body if scope.get("method") != "HEAD" else b""})


def _split(host: str) -> tuple[str, int | None]:
    """Name and port of a ``Host`` header; port 80 where none stands."""
    name, colon, port = host.rpartition(":")
    if not colon or host.endswith("]"):
        return host, 80
    return name, int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else None


def _is_address(name: str) -> bool:
    try:
        ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True
