"""Asks the measuring process, which is started when it is needed and ended when it was not for a while."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from typing import Any

from loratools.errors import LoratoolsError
from loratools.studio.api.words import problem
from loratools.studio.child_environment import child_environment

_IDLE = 120.0  # seconds after which the process, and the memory it has, goes
_PATIENCE = 120.0  # seconds for one answer
_BUSY = 503
_WAITING = 4  # questions that may wait; more are those of a hand that has moved on
_PROCESS = "loratools.studio.measuring.process"


class Measurer:
    """One question at a time; some others wait, and of more than :data:`_WAITING` the oldest are given up."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._asking, self._counting = threading.Lock(), threading.Lock()
        self._newest = 0
        self._timer: threading.Timer | None = None

    def ask(self, stack: str, other: str | None = None) -> dict[str, Any]:
        """Shares of a merge string, and the change to ``other``; see :mod:`.process`.

        Raises:
            LoratoolsError: if the merge cannot be made.
            StudioError: if the process died, or many newer questions wait.
        """
        with self._counting:
            self._newest += 1
            number = self._newest
        with self._asking:
            if self._newest - number > _WAITING:
                raise problem("norms.busy", status=_BUSY)
            if self._timer is not None:
                self._timer.cancel()
            answer = self._ask({"stack": stack, "other": other})
            self._timer = threading.Timer(_IDLE, self.close)
            self._timer.daemon = True
            self._timer.start()
        if "error" in answer:
            raise LoratoolsError(answer["error"])
        return answer

    def close(self) -> None:
        """End the process."""
        with self._asking:
            self._end()

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        process = self._running()
        if process.stdin is None or process.stdout is None:  # both are pipes
            raise problem("norms.none", status=_BUSY)
        timer = threading.Timer(_PATIENCE, process.kill)
        timer.start()
        try:
            process.stdin.write(json.dumps(question) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except OSError:
            line = ""
        finally:
            timer.cancel()
        if not line:
            self._end()
            raise problem("norms.ended", status=_BUSY)
        content = json.loads(line)
        return content if isinstance(content, dict) else {}

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", _PROCESS],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                env=child_environment(),
            )
        return self._process

    def _end(self) -> None:
        if self._process is None:
            return
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        try:
            self._process.wait(2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None
