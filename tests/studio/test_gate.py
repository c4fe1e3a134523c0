"""The gate: what another page, another port or another name can ask for is refused, for HTTP and for the websocket."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from loratools.studio.gate import MOST_BYTES, Gate, Hosts
from loratools.studio.token import Secrets, cookie_name
from tests.studio.served import HOST, ORIGIN, PORT, Served, served

JSON = "application/json"
REBOUND = [  # what a page sends whose name was made to point here, and other names
    "evil.example",
    f"evil.example:{PORT}",
    f"127.0.0.1.evil.example:{PORT}",
    f"localhost.evil.example:{PORT}",
    "127.0.0.1",
    f"127.0.0.1:{PORT + 1}",
    f"0.0.0.0:{PORT}",
    f"127.0.0.1:{PORT}@evil.example",
    f"evil.example:{PORT}:{PORT}",
    f"[::1]:{PORT + 1}",
    f"127.1:{PORT}",
    "",
]
ORIGINS = [
    "http://evil.example",
    f"http://evil.example:{PORT}",
    f"http://127.0.0.1:{PORT + 1}",
    f"http://localhost:{PORT}",  # ours by another name: another origin for a browser
    "null",
    "",
    f"{ORIGIN}.evil.example",
    f"file://{HOST}",
]


@pytest.fixture
def here(tmp_path: Path) -> Served:
    return served(tmp_path)


@pytest.mark.parametrize("host", REBOUND)
@pytest.mark.parametrize("path", ["/", "/healthz", "/api/state", "/api/session"])
def test_a_host_that_is_not_ours_is_refused_even_with_the_cookie(here: Served, host: str, path: str) -> None:
    method = "POST" if path == "/api/session" else "GET"
    headers = {"host": host, "cookie": here.cookie, "origin": f"http://{host}"}
    answer = here.client.request(method, path, headers=headers, json={"token": here.studio.secrets.token})
    assert answer.status_code == 403
    assert str(PORT) in answer.json()["remedy"]


@pytest.mark.parametrize("host", [f"127.0.0.1:{PORT}", f"localhost:{PORT}", f"LOCALHOST:{PORT}", f"[::1]:{PORT}"])
def test_the_names_of_this_machine_are_allowed(here: Served, host: str) -> None:
    assert here.client.get("/healthz", headers={"host": host}).text == "ok"


def test_two_hosts_are_none(here: Served) -> None:
    app = here.client.app
    assert isinstance(app, Gate)
    scope = {"type": "http", "path": "/healthz", "headers": [(b"host", HOST.encode()), (b"host", HOST.encode())]}
    with pytest.raises(Exception) as refused:
        app._check(scope)
    assert refused.value.status == 403  # type: ignore[attr-defined]


@pytest.mark.parametrize("host", REBOUND)
def test_the_socket_refuses_a_host_that_is_not_ours(here: Served, host: str) -> None:
    _socket_refused(here, host=host, origin=f"http://{host}", cookie=here.cookie)


@pytest.mark.parametrize("origin", [*ORIGINS, None])
def test_the_socket_refuses_another_origin_and_none(here: Served, origin: str | None) -> None:
    _socket_refused(here, host=HOST, origin=origin, cookie=here.cookie)


@pytest.mark.parametrize("cookie", [None, "", "x=1", f"{cookie_name(PORT)}=", f"{cookie_name(PORT)}=guess", '"'])
def test_the_socket_refuses_a_page_without_session(here: Served, cookie: str | None) -> None:
    _socket_refused(here, host=HOST, origin=ORIGIN, cookie=cookie)


@pytest.mark.parametrize("other", ['a={"x": 1}', "b=\u00e9", "c d", "expires=soon", "path", "", 'x="y; z"'])
def test_cookies_of_other_programs_on_this_machine_keep_nobody_out(here: Served, other: str) -> None:
    """Cookies are shared between the ports of a host, and others put anything into theirs."""
    for text in (f"{other}; {here.cookie}", f"{here.cookie}; {other}"):
        assert here.client.get("/api/state", headers={b"cookie": text.encode()}).status_code == 200


def test_the_socket_takes_our_page(here: Served) -> None:
    with here.socket() as socket:
        socket.send_json({"type": "watch", "after": 1})
        assert socket.receive_json()["event"] == "reset"


@pytest.mark.parametrize("origin", [*ORIGINS, None])
def test_a_change_asked_by_another_origin_is_refused(here: Served, origin: str | None) -> None:
    client = TestClient(here.client.app, base_url=ORIGIN)
    headers = {"cookie": here.cookie} | ({} if origin is None else {"origin": origin})
    assert client.post("/api/vector", json={"text": "GP1"}, headers=headers).status_code == 403


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_reading_is_refused_to_other_sites_and_other_ports_of_this_machine(here: Served, site: str) -> None:
    for path in ("/api/state", "/api/pictures/x"):
        answer = here.client.get(path, headers={"cookie": here.cookie, "sec-fetch-site": site})
        assert answer.status_code == 403


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "", None]
)
def test_only_json_is_read(here: Served, kind: str | None) -> None:
    headers = {} if kind is None else {"content-type": kind}
    answer = here.sign_in().client.post("/api/session", content=b'{"token": "x"}', headers=headers)
    assert answer.status_code == 415


def test_huge_bodies_are_refused_by_their_length_and_by_what_comes(here: Served) -> None:
    def endless() -> object:  # no content-length: sent in chunks
        for _ in range(MOST_BYTES // 65536 + 2):
            yield b" " * 65536

    said = here.client.post("/api/session", content=b" " * (MOST_BYTES + 1), headers={"content-type": JSON})
    came = here.client.post("/api/session", content=endless(), headers={"content-type": JSON})  # type: ignore[arg-type]
    assert (said.status_code, came.status_code) == (413, 413)


@pytest.mark.parametrize(
    "path",
    ["/api/state", "/api/loras", "/api/loras/x", "/api/runs", "/api/grids", "/api/pictures/x", "/api/jobs", "/api/x"],
)
def test_everything_that_holds_data_needs_the_cookie(here: Served, path: str) -> None:
    assert here.client.get(path).status_code == 401
    wrong = {"cookie": f"{cookie_name(PORT)}={secrets.token_urlsafe(32)}"}
    assert here.client.get(path, headers=wrong).status_code == 401
    other = {"cookie": f"{cookie_name(PORT + 1)}={here.studio.secrets.cookie}"}
    assert here.client.get(path, headers=other).status_code == 401
    assert here.client.get(path, headers={"cookie": f"{here.cookie}x"}).status_code == 401
    assert here.client.get(path, params={"token": here.studio.secrets.token}).status_code == 401


@pytest.mark.parametrize("path", ["/assets/../../app.py", "/assets/%2e%2e/%2e%2e/app.py", "/assets//etc/passwd"])
def test_no_file_beside_the_page_is_served(here: Served, path: str) -> None:
    assert here.client.get(path).status_code in (401, 404)


def test_a_token_is_exchanged_for_a_cookie_that_no_script_reads_and_no_site_sends(here: Served) -> None:
    answer = here.client.post("/api/session", json={"token": here.studio.secrets.token})
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(f"loratools-{PORT}=")
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie and "Domain" not in cookie
    assert here.studio.secrets.token not in cookie


@pytest.mark.parametrize("token", ["", "x", "x" * 201])
def test_a_wrong_token_gives_none(here: Served, token: str) -> None:
    answer = here.client.post("/api/session", json={"token": token})
    assert answer.status_code in (401, 422)
    assert "set-cookie" not in answer.headers


def test_tokens_and_keys_are_new_at_every_start() -> None:
    one, two = Secrets(), Secrets()
    assert len(one.token) >= 43  # 256 bits
    assert one.token != two.token and one.cookie != two.cookie and one.id_of("a") != two.id_of("a")
    assert one.token not in repr(one)


@pytest.mark.parametrize("path", ["/", "/healthz", "/api/state", "/assets/x.js"])
def test_every_answer_says_what_browsers_may_do_with_it(here: Served, path: str) -> None:
    headers = here.client.get(path).headers
    rules = headers["content-security-policy"]
    for rule in ("default-src 'self'", "frame-ancestors 'none'", "object-src 'none'", "base-uri 'none'"):
        assert rule in rules
    assert "unsafe" not in rules and "*" not in rules
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS"])
def test_other_methods_do_nothing(here: Served, method: str) -> None:
    answer = here.client.request(method, "/api/session", headers={"content-type": JSON})
    assert answer.status_code == 405


def test_names_given_with_host_are_allowed_and_for_every_network_numbers_alone() -> None:
    named = Hosts(PORT, ("studio.lan",))
    assert named.allow(f"studio.lan:{PORT}") and named.allow(f"localhost:{PORT}")
    assert not named.allow(f"192.168.1.2:{PORT}") and not named.allow("studio.lan")
    everywhere = Hosts(PORT, (), any_address=True)
    assert everywhere.allow(f"192.168.1.2:{PORT}") and everywhere.allow(f"[fe80::1]:{PORT}")
    assert not everywhere.allow(f"evil.example:{PORT}")
    proxied = Hosts(PORT, proxies=("studio.example", "studio.example:8443"))
    assert proxied.allow("Studio.example") and proxied.allow("studio.example:8443") and proxied.allow(HOST)
    assert not proxied.allow("studio.example:80") and not proxied.allow("other.example")
    assert Hosts(80).allow("localhost") and not Hosts(80).allow("localhost:8080")


def _socket_refused(here: Served, *, host: str, origin: str | None, cookie: str | None) -> None:
    headers = {"host": host} | ({"cookie": cookie} if cookie is not None else {})
    client = TestClient(here.client.app, base_url=ORIGIN, headers={} if origin is None else {"origin": origin})
    with (
        pytest.raises(WebSocketDisconnect) as closed,
        client.websocket_connect("/api/live", headers=headers) as socket,
    ):
        socket.receive_json()
    assert closed.value.code == 1008
