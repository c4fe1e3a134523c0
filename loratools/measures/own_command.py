"""``command=COMMAND``: a measure of the user's own as a program, in any language; JSON lines in, JSON lines out.

It is started once and fed batch by batch::

    in   {"file": "/tmp/.../000001.png", "prompt": "1girl, waving", "seed": 3}
    out  {"value": 0.75}

one line out for each line in, in the same order; ``null`` where it cannot tell, and ``{"error": "why"}`` ends the run
with that reason. Pictures are PNGs of a temporary folder and are gone after their batch. The program ends when its
input does; what it says on stderr goes through.
"""

from __future__ import annotations

import json
import math
import queue
import shlex
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from loratools.errors import MeasureError
from loratools.measures.estimate import Values
from loratools.measures.measure import Better, Shown

TIMEOUT = 120.0  # seconds that one answer may take; the first may load a model
_AT_ONCE = 64  # pictures that wait as files at one time
_END_IN = 5.0  # seconds that the program has to end in when its input has ended


@dataclass(frozen=True)
class _Ended:
    """In the place of a line: the program's output has ended."""


class CommandMeasure:
    """A long-lived program that gives a value for each picture."""

    def __init__(self, command: str, better: Better = "lower", *, timeout: float = TIMEOUT) -> None:
        """Nothing is started before the first picture.

        Args:
            command: as a shell would split it, but no shell runs.
            timeout: seconds that one line of output may take.
        Raises:
            MeasureError: if the command cannot be split into words.
        """
        try:
            self._words = _words(command)
        except ValueError as error:
            raise MeasureError(f"the command '{command}' cannot be read ({error}); close its quotes") from error
        if not self._words:
            raise MeasureError("the measure 'command' needs a program after '='")
        self.name = Path(self._words[-1] if len(self._words) > 1 else self._words[0]).stem or "command"
        self.better: Better = better
        self._command, self._timeout = command, timeout
        self._program: _Program | None = None

    def __call__(self, pictures: Sequence[Shown]) -> Values:
        """Raises MeasureError if the program cannot be started, ends early, is too slow, or answers otherwise."""
        values: list[float] = []
        with tempfile.TemporaryDirectory(prefix="loratools-") as folder:
            for start in range(0, len(pictures), _AT_ONCE):
                values += self._batch(pictures[start : start + _AT_ONCE], Path(folder), start)
        return np.array(values, dtype=np.float64)

    def close(self) -> None:
        """End the program; the next picture starts it again."""
        if self._program is not None:
            self._program.end()
            self._program = None

    def _batch(self, pictures: Sequence[Shown], folder: Path, first: int) -> list[float]:
        if self._program is None:
            self._program = _Program(self._words, self._command)
            weakref.finalize(self, self._program.end)
        files = [folder / f"{first + number:06d}.png" for number in range(len(pictures))]
        for file, picture in zip(files, pictures, strict=True):
            picture.image.save(file)
        lines = [
            json.dumps({"file": str(file), "prompt": picture.prompt, "seed": picture.seed}, ensure_ascii=False)
            for file, picture in zip(files, pictures, strict=True)
        ]
        try:
            self._program.write(lines)
            values = [self._value(self._program.line(self._timeout)) for _ in lines]
        except BaseException:  # what is left of its answers belongs to nothing that is asked later
            self.close()
            raise
        for file in files:
            file.unlink(missing_ok=True)
        return values

    def _value(self, line: str) -> float:
        try:
            answer: Any = json.loads(line)
        except ValueError as error:
            raise MeasureError(
                f"'{self._command}' wrote {_shortened(line)}, which is no JSON; it should write one line such as "
                '{"value": 0.75} for each picture'
            ) from error
        if isinstance(answer, dict) and "error" in answer:
            raise MeasureError(f"'{self._command}' says: {answer['error']}")
        value = answer.get("value", answer) if isinstance(answer, dict) else answer
        if value is None:
            return math.nan
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise MeasureError(f"'{self._command}' wrote {_shortened(line)}; it should write {{\"value\": a number}}")
        return float(value)


class _Program:
    """A running program; threads read and write, so that neither side waits for a full pipe."""

    def __init__(self, words: Sequence[str], command: str) -> None:
        self._command = command
        try:
            self._process = subprocess.Popen(
                words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8", errors="replace"
            )
        except OSError as error:
            raise MeasureError(f"'{command}' cannot be started ({error.strerror or error})") from error
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
            raise MeasureError(
                f"'{self._command}' gave no answer for {timeout:g} s; it should write a line for each picture and "
                "flush its output"
            ) from None
        code = self._process.wait()
        how = f"with exit code {code}" if code else "by itself"
        raise MeasureError(
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


def _words(command: str) -> list[str]:
    """The command's words; on Windows backslashes are part of paths."""
    words = shlex.split(command, posix=sys.platform != "win32")
    return [word.strip('"') for word in words] if sys.platform == "win32" else words


def _shortened(line: str) -> str:
    text = line.strip()
    return repr(text if len(text) <= 60 else f"{text[:57]}...")
