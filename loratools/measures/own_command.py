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
import shutil
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from loratools.errors import MeasureError
from loratools.line_program import LineProgram, command_words
from loratools.measures.estimate import Values
from loratools.measures.measure import Better, Shown

TIMEOUT = 120.0  # seconds that one answer may take; the first may load a model
_AT_ONCE = 64  # pictures that wait as files at one time


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
            self._words = command_words(command)
        except ValueError as error:
            raise MeasureError(f"the command '{command}' cannot be read ({error}); close its quotes") from error
        if not self._words:
            raise MeasureError("the measure 'command' needs a program after '='")
        self.name = Path(self._words[-1] if len(self._words) > 1 else self._words[0]).stem or "command"
        self.better: Better = better
        self._command, self._timeout = command, timeout
        self._program: LineProgram | None = None

    def __call__(self, pictures: Sequence[Shown]) -> Values:
        """Raises MeasureError if the program cannot be started, ends early, is too slow, or answers otherwise."""
        values: list[float] = []
        with tempfile.TemporaryDirectory(prefix="loratools-") as folder:
            for start in range(0, len(pictures), _AT_ONCE):
                values += self._batch(pictures[start : start + _AT_ONCE], Path(folder), start)
        return np.array(values, dtype=np.float64)

    def check(self) -> None:
        """Raise MeasureError if there is no such program; nothing is started."""
        if shutil.which(self._words[0]) is None:
            raise MeasureError(
                f"'{self._command}' cannot be started (there is no program '{self._words[0]}'); check its name, and "
                "that it is installed"
            )

    def close(self) -> None:
        """End the program; the next picture starts it again."""
        if self._program is not None:
            self._program.end()
            self._program = None

    def _batch(self, pictures: Sequence[Shown], folder: Path, first: int) -> list[float]:
        if self._program is None:
            self._program = LineProgram(self._words, self._command, MeasureError)
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


def _shortened(line: str) -> str:
    text = line.strip()
    return repr(text if len(text) <= 60 else f"{text[:57]}...")
