"""Start the server: take the folders' locks, listen, print the address, open the browser."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from loratools.errors import FileError, UnavailableError
from loratools.studio.context import Options, Studio
from loratools.studio.roots import Roots, held
from loratools.studio.token import Secrets

LOCAL = "127.0.0.1"
_EVERYWHERE = ("0.0.0.0", "::")
Print = Callable[[str], object]


@dataclass(frozen=True)
class Address:
    """Where the server listens.

    Attributes:
        host: a name or address; ``0.0.0.0`` for every network of this machine.
        port: 0 for any free one.
        proxies: names, with ports other than 80 and 443, that a proxy in front is called by.
    """

    host: str = LOCAL
    port: int = 0
    proxies: tuple[str, ...] = ()

    @property
    def local(self) -> bool:
        """Whether only this machine reaches it."""
        return self.host in (LOCAL, "localhost", "::1")


def serve(
    folders: Sequence[str | Path],
    address: Address,
    options: Options,
    *,
    browser: bool,
    say: Print,
    warn: Print,
) -> None:
    """Serve the folders until Ctrl+C.

    Args:
        say: prints the address, one line and nothing else; ``warn`` prints what a person should know besides.
    Raises:
        FileError: if a folder is missing, or the port is taken.
        HeldError: if another server has a folder open.
        UnavailableError: without the packages of ``loratools[studio]``.
    """
    check_packages()
    from loratools.studio.app import make_app
    from loratools.studio.gate import Hosts

    secrets = Secrets()
    roots = Roots(folders, secrets)
    with held(roots), _listening(address) as sockets:
        port = int(sockets[0].getsockname()[1])
        studio = Studio(port, secrets, roots, options)
        named = not address.local and address.host not in _EVERYWHERE
        shown = _in_brackets(address.host) if named else LOCAL
        hosts = Hosts(
            port, (shown, *_own_names(address)), any_address=address.host in _EVERYWHERE, proxies=address.proxies
        )
        url = f"http://{shown}:{port}/#{secrets.token}"
        if options.demo:
            _add_demo(studio)
        say(url)
        _explain(address, port, secrets, warn)
        if browser:
            threading.Thread(target=webbrowser.open, args=[url], daemon=True).start()
        _run(make_app(studio, hosts), sockets)


def _add_demo(studio: Studio) -> None:
    """Make the demo's files, and queue what takes longer."""
    from loratools.studio.demo import prepare

    folder = studio.roots.roots[0].path
    known = {record.title for record in studio.queue.jobs() if record.state != "done"}
    for command in prepare(folder):
        if command.title not in known:
            studio.queue.add(command)


def check_packages() -> None:
    """Raise where the packages of the extra ``[studio]`` are missing.

    Raises:
        UnavailableError: with the command that installs them.
    """
    from importlib.util import find_spec

    missing = [name for name in ("starlette", "uvicorn", "websockets") if find_spec(name) is None]
    if missing:
        raise UnavailableError(
            f"the studio needs {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed; "
            "pip install 'loratools[studio]'"
        )


def _run(app: object, sockets: list[socket.socket]) -> None:
    import uvicorn

    config = uvicorn.Config(
        app,  # type: ignore[arg-type]
        log_level="warning",
        access_log=False,
        server_header=False,
        date_header=False,
        lifespan="on",
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        ws_max_size=2 * 1024 * 1024,
        ws_max_queue=64,
        proxy_headers=False,
        timeout_graceful_shutdown=2,
    )
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=sockets)


@contextlib.contextmanager
def _listening(address: Address) -> Iterator[list[socket.socket]]:
    """The sockets: of 127.0.0.1 and, where this machine has it, of ::1 on the same port; else of the address given."""
    with contextlib.ExitStack() as opened:
        first = opened.enter_context(_bound(LOCAL if address.local else address.host, address.port))
        sockets = [first]
        if address.local and socket.has_ipv6:
            with contextlib.suppress(FileError):  # ::1 is missing, or its port is taken by another program
                sockets.append(opened.enter_context(_bound("::1", first.getsockname()[1])))
        yield sockets


def _bound(host: str, port: int) -> socket.socket:
    try:
        family, kind, proto, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        made = socket.socket(family, kind, proto)
    except OSError as error:
        raise FileError(f"{host} is no address of this machine ({error.strerror}); give another --host") from error
    try:
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if sys.platform == "win32":  # there SO_REUSEADDR, of any program, takes a port that is in use
            made.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(where)
        made.listen(128)
    except OSError as error:
        made.close()
        raise FileError(
            f"cannot listen on {host} port {port}: {error.strerror or error}; give another --port, or none"
        ) from error
    return made


def _own_names(address: Address) -> tuple[str, ...]:
    return (socket.gethostname(),) if address.host in _EVERYWHERE else ()


def _in_brackets(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _explain(address: Address, port: int, secrets: Secrets, warn: Print) -> None:
    """What a person on another machine needs, and the warning where others reach the server."""
    if address.local:
        warn(
            f"From another machine: ssh -N -L {port}:{LOCAL}:{port} {_user()}@{socket.gethostname()} there, then open "
            "the address above. Ctrl+C ends the server; jobs go on."
        )
        return
    warn(
        f"warning: everybody who reaches {address.host} and has the address above can read and change the opened "
        "folders, and it is sent unencrypted; on a network that is not yours use ssh instead: leave --host out and run "
        f"ssh -N -L {port}:{LOCAL}:{port} {_user()}@{socket.gethostname()}"
    )
    if address.host in _EVERYWHERE:
        for own in _addresses():
            warn(f"http://{_in_brackets(own)}:{port}/#{secrets.token}")


def _addresses() -> list[str]:
    """Numeric addresses of this machine in its networks."""
    try:
        found = socket.getaddrinfo(socket.gethostname(), None, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return sorted({str(entry[4][0]) for entry in found} - {LOCAL, "::1"})


def _user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "USER"
