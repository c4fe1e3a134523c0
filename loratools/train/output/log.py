"""The log of a run: one JSON object a line; after kills and resumes each line is there exactly once."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from loratools import files
from loratools.errors import FileError
from loratools.train.output.run_folder import RunFolder


class RunLog:
    """The JSONL log. Each line has a ``kind``, such as ``run``, ``step`` or ``epoch``, and is flushed at once.

    Args:
        keep_steps: None starts a new file; else lines of later steps are dropped and the rest is kept.
    """

    def __init__(self, folder: RunFolder, first: Mapping[str, Any], keep_steps: int | None) -> None:
        self._path = folder.log
        lines = [] if keep_steps is None else _lines_until(folder.log, keep_steps)
        text = json.dumps({"kind": "run", "owner": folder.owner, **first}, ensure_ascii=False)
        files.write_text(folder.log, "\n".join([*(lines or [text]), ""]))
        self._stream: TextIO = open(folder.log, "a", encoding="utf-8", errors="replace")  # noqa: SIM115  (closed by close)

    def write(self, kind: str, values: Mapping[str, Any]) -> None:
        """Append one line.

        Raises:
            FileError: if the disk is full or the file is gone.
        """
        try:
            self._stream.write(json.dumps({"kind": kind, **values}, ensure_ascii=False) + "\n")
            self._stream.flush()
        except OSError as error:
            raise self._failed(error) from error

    def sync(self) -> None:
        """Flush what was written to the disk, so that the log never ends before the state does.

        Raises:
            FileError: as :meth:`write`.
        """
        try:
            os.fsync(self._stream.fileno())
        except OSError as error:
            raise self._failed(error) from error

    def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(OSError):  # on a full disk, which the line that did not fit has reported
            self._stream.close()

    def _failed(self, error: OSError) -> FileError:
        return FileError(
            f"cannot write {self._path}: {error.strerror or error}; free some space and go on with "
            "`resume=True`, the last state is whole"
        )


class NoLog:
    """Takes the log's place in a process that writes nothing."""

    def write(self, kind: str, values: Mapping[str, Any]) -> None:
        """Nothing."""

    def sync(self) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def _lines_until(path: Path, step: int) -> list[str]:
    kept = []
    for line in files.json_lines(path.read_text(encoding="utf-8")) if path.is_file() else []:
        try:
            record = json.loads(line)
        except ValueError:
            break  # the line that a kill cut short
        if record.get("step", 0) > step:
            break
        kept.append(line)
    return kept
