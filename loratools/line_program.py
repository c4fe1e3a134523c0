"""A user's own program that answers line by line, in any language: a line in, a line out, in the same order.

It is started once; it ends when its input does, and what it says on stderr goes through.
"""

from __future__ import annotations

import contextlib
import queue
import shlex
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from loratools.errors import LoratoolsError

_END_IN = 5.0  # seconds that the program has to end in when its input has ended


@dataclass(frozen=True)
class _Ended:
    """In the place of a line: the program's output has ended."""


class LineProgram:
    """A running program; threads read and write, so that neither side waits for a full pipe.

    Args:
        words: the command, split; see :func:`command_words`.
        command: as the user wrote it, for messages.
        error: what is raised if it cannot be started, ends early, or is too slow.
    """

    def __init__(self, words: Sequence[str], command: str, error: type[LoratoolsError]) -> None:
        self._command, self._error = command, error
        try:
            self._process = subprocess.Popen(
                words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8", errors="replace"
            )
        except OSError as failed:
            raise error(
                f"'{command}' cannot be started ({failed.strerror or failed}); check its name, and that it is installed"
            ) from failed
        self._lines: queue.SimpleQueue[str | _Ended] = queue.SimpleQueue()
        threading.Thread(target=_read, args=(self._process.stdout, self._lines), daemon=True).start()

    def write(self, lines: Sequence[str]) -> None:
        """Hand lines over; a program that has ended shows when its answer is asked for."""
        text = "".join(f"{line}\n" for line in lines)
        threading.Thread(target=_write, args=(self._process.stdin, text), daemon=True).start()

    def line(self, timeout: float) -> str:
        """The next line that is not blank."""
        try:
            while isinstance(line := self._lines.get(timeout=timeout), str):
                if line.strip():
                    return line
        except queue.Empty:
            raise self._error(
                f"'{self._command}' gave no answer for {timeout:g} s; it should write a line for each picture and "
                "flush its output"
            ) from None
        code = self._process.wait()
        how = f"with exit code {code}" if code else "by itself"
        raise self._error(
            f"'{self._command}' ended {how} before it had answered for every picture; it should read lines until its "
            "input ends"
        )

    def end(self) -> None:
        """Close its input, and kill it if it does not end by that."""
        try:
            if self._process.stdin is not None:
                self._process.stdin.close()
        except OSError:
            self._process.kill()  # it does not read what was written to it
        try:
            self._process.wait(_END_IN)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _read(stream: IO[str], lines: queue.SimpleQueue[str | _Ended]) -> None:
    for line in stream:
        lines.put(line)
    stream.close()
    lines.put(_Ended())


def _write(stream: IO[str], text: str) -> None:
    try:
        stream.write(text)
        stream.flush()
    except (OSError, ValueError):  # it has ended, which its missing answer says
        return


def command_words(command: str) -> list[str]:
    """The command's words, as a shell would split it; on Windows backslashes are part of paths.

    Raises:
        ValueError: if its quotes are not closed.
    """
    words = shlex.split(command, posix=sys.platform != "win32")
    return [word.strip('"') for word in words] if sys.platform == "win32" else words


def command_files(command: str) -> list[Path]:
    """The files that a command names, such as its script: what it is made of, besides what is installed. None where its
    quotes are not closed, which starting it says."""
    with contextlib.suppress(ValueError):
        return [path for path in map(Path, command_words(command)) if path.is_file()]
    return []
