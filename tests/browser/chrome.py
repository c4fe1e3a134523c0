"""Headless Chromium by the DevTools protocol over a pipe: no library, no open port, no driver."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
KEYS = {
    "ArrowLeft": 37,
    "ArrowUp": 38,
    "ArrowRight": 39,
    "ArrowDown": 40,
    "PageUp": 33,
    "PageDown": 34,
    "Enter": 13,
    "Escape": 27,
    " ": 32,
    "Tab": 9,
}
_PATIENCE = 60.0  # seconds for an answer: generous, as machines are shared


def find_chrome() -> str | None:
    """The browser to drive, from $CHROME or the usual names."""
    return os.environ.get("CHROME") or next(filter(None, map(shutil.which, NAMES)), None)


_LEFT = "WebSocket is closed before the connection is established"  # noted where a page is left while it connects


class ChromeError(Exception):
    """The browser refused a command, or the page's script threw."""


class RefusedError(ChromeError):
    """The browser refused a command, as it does one for a document that is going."""


class Page:
    """One page of a running browser; ``problems`` collects its console's errors, exceptions and failed loads."""

    def __init__(self, sending: int, receiving: int) -> None:
        self._sending, self._receiving = sending, receiving
        self._number, self._buffer, self._session = 0, b"", ""
        self._traced: list[dict[str, Any]] | None = None
        self._complete = False
        self.problems: list[str] = []
        self.requests: list[str] = []  # every URL that the page asked for, websockets too
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send one command and wait for its answer; events that come meanwhile are looked through for problems."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._sending, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RefusedError(f"{method}: {answer['error']['message']}")
                return dict(answer["result"])
            self._notice(answer)

    def _receive(self) -> dict[str, Any]:
        deadline = time.monotonic() + _PATIENCE
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._receiving], [], [], max(0.0, deadline - time.monotonic()))
            data = os.read(self._receiving, 1 << 16) if ready else b""
            if not data:
                raise ChromeError("the browser is gone" if ready else "the browser does not answer")
            self._buffer += data
        text, self._buffer = self._buffer.split(b"\0", 1)
        return dict(json.loads(text))

    def _notice(self, event: dict[str, Any]) -> None:
        params = event.get("params", {})
        match event.get("method"):
            case "Runtime.exceptionThrown":
                details = params["exceptionDetails"]
                self.problems.append(details.get("exception", {}).get("description") or details["text"])
            case "Runtime.consoleAPICalled" if params["type"] in ("error", "warning", "assert"):
                self.problems.append(" ".join(str(value.get("value")) for value in params["args"]))
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])
            case "Network.webSocketCreated":
                self.requests.append(params["url"])
            case "Tracing.dataCollected" if self._traced is not None:
                self._traced += params["value"]
            case "Tracing.tracingComplete":
                self._complete = True
            case "Log.entryAdded" if _LEFT in params["entry"]["text"]:
                pass
            case "Log.entryAdded" if params["entry"]["level"] in ("error", "warning"):
                self.problems.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")

    def tasks(self, act: Callable[[], Any]) -> list[float]:
        """Milliseconds of a processor that each task of the page's main thread took while ``act`` ran: those of a busy
        machine are those of an idle one."""
        found: list[dict[str, Any]] = []
        session, self._session, self._traced = self._session, "", found
        self.call("Tracing.start", categories="toplevel", transferMode="ReportEvents")
        self._session = session
        try:
            act()
        finally:
            self._session = ""
            self.call("Tracing.end")
            while not self._complete:
                self._notice(self._receive())
            self._session, self._traced, self._complete = session, None, False
        mains = {
            (own["pid"], own["tid"])
            for own in found
            if own["name"] == "thread_name" and own["args"]["name"] == "CrRendererMain"
        }
        return [own["tdur"] / 1000 for own in found if "tdur" in own and (own["pid"], own["tid"]) in mains]

    def open(self, path: Path, *, width: int = 1280, height: int = 800, dark: bool = False) -> None:
        """Load a file, at a window size in CSS pixels, and wait until it stands."""
        self.visit(path.as_uri(), width=width, height=height, dark=dark)

    def visit(self, url: str, *, width: int = 1280, height: int = 800, dark: bool = False) -> None:
        """Load an address, at a window size in CSS pixels, and wait until it stands."""
        self.window(width=width, height=height, dark=dark)
        if url == self.js("location.href"):
            self.reload()
            return
        self.call("Page.navigate", url=url)
        begins = json.dumps(url.partition("#")[0])
        self.wait(f"location.href.startsWith({begins}) && document.readyState === 'complete'")

    def reload(self) -> None:
        """Load the document once more, and wait until it stands; a script that reloads would be cut off by that."""
        self.js("window.wasBefore = 1")  # of the document that is left, which stands for a while yet
        self.call("Page.reload")
        self.wait("!window.wasBefore && document.readyState === 'complete'")

    def window(self, *, width: int = 1280, height: int = 800, dark: bool = False) -> None:
        """Its size in CSS pixels, and whether the person likes it dark."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[theme])

    def js(self, expression: str) -> Any:
        """The value of an expression (a promise is awaited)."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True, userGesture=True
        )
        if "exceptionDetails" in answer:
            raise ChromeError(answer["exceptionDetails"].get("exception", {}).get("description", "the script threw"))
        return answer["result"].get("value")

    def wait(self, expression: str) -> None:
        """Until an expression is true."""
        deadline = time.monotonic() + _PATIENCE
        while not self._holds(expression):
            if time.monotonic() > deadline:
                raise ChromeError(f"never came true: {expression}")
            time.sleep(0.02)

    def _holds(self, expression: str) -> bool:
        """Whether it is true; a document that goes while it is asked says nothing yet."""
        try:
            return bool(self.js(expression))
        except RefusedError:
            return False

    def key(self, key: str, *, hold: bool = False, modifiers: int = 0) -> None:
        """Press a key as a keyboard would; with ``hold`` it stays down until :meth:`release`.

        ``modifiers`` are the protocol's bits: 1 Alt, 2 Ctrl, 4 Meta, 8 Shift.
        """
        more = {"text": "\r" if key == "Enter" else key} if len(key) == 1 or key == "Enter" else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", modifiers=modifiers, **self._key(key), **more)
        if not hold:
            self.release(key)

    def release(self, key: str) -> None:
        self.call("Input.dispatchKeyEvent", type="keyUp", **self._key(key))

    @staticmethod
    def _key(key: str) -> dict[str, Any]:
        return {"key": key, "windowsVirtualKeyCode": KEYS.get(key, ord(key.upper()) if len(key) == 1 else 0)}

    def middle(self, selector: str) -> tuple[float, float]:
        """Where an element's middle is in the window, in CSS pixels."""
        box = f"document.querySelector({json.dumps(selector)}).getBoundingClientRect()"
        x, y = self.js(f"(box => [box.x + box.width / 2, box.y + box.height / 2])({box})")
        return float(x), float(y)

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def click(self, selector: str) -> None:
        x, y = self.middle(selector)
        self.mouse("mousePressed", x, y, button="left", clickCount=1)
        self.mouse("mouseReleased", x, y, button="left", clickCount=1)

    def drag(self, selector: str, dx: float, dy: float, steps: int = 10, *, modifiers: int = 0) -> None:
        """Take an element in its middle and move it, in ``steps`` moves."""
        x, y = self.middle(selector)
        self.mouse("mousePressed", x, y, button="left", clickCount=1, modifiers=modifiers)
        for n in range(1, steps + 1):
            to = {"x": x + dx * n / steps, "y": y + dy * n / steps}
            self.mouse("mouseMoved", **to, button="left", buttons=1, modifiers=modifiers)
        self.mouse("mouseReleased", x + dx, y + dy, button="left", clickCount=1, modifiers=modifiers)

    def screenshot(self, path: Path) -> Path:
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))
        return path


@contextlib.contextmanager
def chrome(profile: Path) -> Iterator[Page]:
    """A page of a new browser with an empty profile."""
    binary = find_chrome()
    if binary is None:
        raise ChromeError(f"there is no browser; install one ({', '.join(NAMES)}) or name it in $CHROME")
    (theirs_in, ours_out), (ours_in, theirs_out) = os.pipe(), os.pipe()
    # Chromium reads commands from descriptor 3 and answers on 4; high numbers here cannot be in their way
    read, write = (fcntl.fcntl(end, fcntl.F_DUPFD, 20) for end in (theirs_in, theirs_out))
    options = [
        "--headless=new",
        "--remote-debugging-pipe",
        f"--user-data-dir={profile}",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-extensions",
        "--disable-background-networking",
        "--disable-dev-shm-usage",
        "--mute-audio",
        "--hide-scrollbars",
    ]
    process = subprocess.Popen(
        ["bash", "-c", f'exec "$0" "$@" 3<&{read} 4>&{write}', binary, *options],
        pass_fds=(read, write),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for end in (theirs_in, theirs_out, read, write):
        os.close(end)
    try:
        yield Page(ours_out, ours_in)
    finally:
        os.close(ours_out)
        os.close(ours_in)
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
