"""Sentences by a user's own program, such as a local vision model: JSON lines in, JSON lines out.

::

    in   {"file": "/pictures/1_main/a.png", "tags": ["1girl", "smile"]}
    out  {"caption": "A girl smiles at the viewer."}

one line out for each line in, in the same order; ``{"error": "why"}`` leaves that picture without.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from loratools.errors import DatasetError, OptionError
from loratools.line_program import LineProgram, command_words

TIMEOUT: Final = 600.0  # seconds that one answer may take; the first may load a model


@dataclass(frozen=True)
class Sentence:
    """A sentence on one line, or why there is none."""

    text: str = ""
    error: str = ""


class Captioner:
    """A long-lived program that says a sentence of each picture."""

    def __init__(self, command: str, *, timeout: float = TIMEOUT) -> None:
        """Start it.

        Raises:
            OptionError: if the command cannot be split into words.
            DatasetError: if it cannot be started.
        """
        try:
            words = command_words(command)
        except ValueError as error:
            raise OptionError(f"the command '{command}' cannot be read ({error}); close its quotes") from error
        if not words:
            raise OptionError("`captioner=` needs a program")
        self._command, self._timeout = command, timeout
        self._program = LineProgram(words, command, DatasetError)

    def close(self) -> None:
        """End the program."""
        self._program.end()

    def ask(self, path: Path, tags: Sequence[str]) -> Sentence:
        """What the program says of a picture.

        Raises:
            DatasetError: if it ends early, is too slow, or answers otherwise.
        """
        self._program.write([json.dumps({"file": str(path), "tags": list(tags)}, ensure_ascii=False)])
        line = self._program.line(self._timeout)
        try:
            answer: Any = json.loads(line)
        except ValueError as error:
            raise DatasetError(
                f"'{self._command}' wrote {line.strip()[:60]!r}, which is no JSON; it should write one line such as "
                '{"caption": "A girl smiles."} for each picture'
            ) from error
        if isinstance(answer, dict) and isinstance(answer.get("error"), str):
            return Sentence(error=answer["error"])
        caption = answer.get("caption", answer.get("text")) if isinstance(answer, dict) else answer
        if not isinstance(caption, str) or not caption.strip():
            raise DatasetError(
                f'\'{self._command}\' wrote {line.strip()[:60]!r}; it should write {{"caption": "a sentence"}}'
            )
        return Sentence(" ".join(caption.split()))
