"""``loratools studio`` as a process: its line, its locks, its end; and what it refuses."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import pytest
from click.testing import CliRunner

from loratools.cli.studio.studio import command
from loratools.errors import FileError, HeldError, LoratoolsError
from loratools.studio import serve
from loratools.studio.roots import Roots, held
from loratools.studio.token import Secrets

ROOT = Path(__file__).parents[2]


@contextlib.contextmanager
def running(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    """The process, its address and its token."""
    process = subprocess.Popen(
        [sys.executable, "-m", "loratools", "studio", "--no-browser", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline().strip()
        address, _, token = line.partition("/#")
        yield process, address, token
    finally:
        process.kill()
        process.wait()


def signed_in(address: str, token: str) -> httpx.Client:
    client = httpx.Client(base_url=address, headers={"origin": address}, timeout=30)
    assert client.post("/api/session", json={"token": token}).status_code == 200
    return client


@pytest.mark.slow
def test_it_prints_one_line_serves_and_ends_with_ctrl_c(tmp_path: Path) -> None:
    with running(str(tmp_path)) as (process, address, token):
        assert address.startswith("http://127.0.0.1:") and len(token) >= 43
        assert httpx.get(f"{address}/healthz").text == "ok"
        assert httpx.get(f"{address}/api/runs").status_code == 401
        assert signed_in(address, token).get("/api/runs").json() == []
        second = CliRunner().invoke(command, [str(tmp_path), "--no-browser"])
        assert isinstance(second.exception, HeldError) and "another loratools studio" in str(second.exception)
        process.send_signal(signal.SIGINT)
        rest, said = process.communicate(timeout=30)
        assert process.returncode == 0 and rest == ""
        assert f"-L {address.rpartition(':')[2]}:127.0.0.1:" in said and "Traceback" not in said


@pytest.mark.slow
def test_a_server_that_was_killed_lets_the_next_one_in_with_another_token(tmp_path: Path) -> None:
    with running(str(tmp_path)) as (process, _, first):
        process.kill()
        process.wait()
    with running(str(tmp_path)) as (_, address, second):
        assert first != second
        assert (
            httpx.post(f"{address}/api/session", json={"token": first}, headers={"origin": address}).status_code == 401
        )
        assert signed_in(address, second).get("/api/state").status_code == 200


@pytest.mark.parametrize("folder", ["missing", "file.txt"])
def test_what_is_no_folder_is_refused(tmp_path: Path, folder: str) -> None:
    (tmp_path / "file.txt").touch()
    result = CliRunner().invoke(command, [str(tmp_path / folder), "--no-browser"])
    assert isinstance(result.exception, FileError) and "give folders" in str(result.exception)


def test_a_port_that_is_taken_is_refused(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        given = [str(tmp_path), "--no-browser", "--port", str(other.getsockname()[1])]
        result = CliRunner().invoke(command, given)
    assert isinstance(result.exception, FileError) and "another --port" in str(result.exception)
    with held(Roots([tmp_path], Secrets())):  # its lock is free again
        pass


def test_an_address_that_is_not_this_machines_is_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(command, [str(tmp_path), "--no-browser", "--host", "no.such.host.invalid"])
    assert isinstance(result.exception, FileError) and "another --host" in str(result.exception)


def test_without_its_packages_it_says_how_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = CliRunner().invoke(command, [str(tmp_path), "--no-browser"])
    assert isinstance(result.exception, LoratoolsError) and "pip install 'loratools[studio]'" in str(result.exception)


@pytest.mark.parametrize(("host", "warned"), [("127.0.0.1", False), ("0.0.0.0", True)])
def test_an_open_address_is_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, warned: bool) -> None:
    served: list[object] = []
    monkeypatch.setattr(serve, "_run", lambda app, sockets: served.append(app))
    result = CliRunner().invoke(command, [str(tmp_path), "--no-browser", "--host", host])
    assert result.exit_code == 0 and len(served) == 1, result.output
    assert len(result.stdout.splitlines()) == 1 and result.stdout.startswith("http://127.0.0.1:")
    assert ("warning: everybody who reaches" in result.stderr) == warned
    allowed = served[0].hosts  # type: ignore[attr-defined]
    assert allowed.allow(f"10.1.2.3:{allowed.port}") == warned and not allowed.allow(f"evil.example:{allowed.port}")


def test_on_windows_no_other_program_can_take_the_port_that_is_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int, int]] = []

    class Socket(socket.socket):
        def setsockopt(self, *given: int) -> None:  # type: ignore[override]
            asked.append(given)  # type: ignore[arg-type]

    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(socket, "SO_EXCLUSIVEADDRUSE", -5, raising=False)
    monkeypatch.setattr(socket, "socket", Socket)
    serve._bound("127.0.0.1", 0).close()
    assert asked == [(socket.SOL_SOCKET, -5, 1)]
