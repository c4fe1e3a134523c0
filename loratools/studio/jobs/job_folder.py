"""One job's folder, through which the server and the job's process speak: files alone, so that either may be killed.

``job.json`` is what is run, frozen when the job was added; ``log.txt`` what it prints; ``progress.json`` how far it is;
``ask.json`` what it is asked to do; ``begun`` and ``end.json`` say that it has begun and how it ended. The process
holds a lock for as long as it lives, which the system drops however it ends.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from loratools.errors import LoratoolsError
from loratools.files import is_locked, locked, write_text
from loratools.studio.api.jobs import Progress


@dataclass(frozen=True)
class FrozenCommand:
    """What a job runs.

    Attributes:
        argv: after ``loratools``.
        cwd: the folder that it runs in.
        stop_file: of a training, which ends it after its epoch; empty for anything else.
    """

    argv: tuple[str, ...]
    cwd: str
    stop_file: str = ""


@dataclass(frozen=True)
class JobEnd:
    """How a job ended: the exit code, and the last line of what went wrong."""

    code: int
    error: str
    ended: float


@dataclass(frozen=True)
class JobFolder:
    """The files of a job."""

    path: Path

    @property
    def log(self) -> Path:
        """What it prints."""
        return self.path / "log.txt"

    @property
    def progress(self) -> Path:
        """How far it is; see :mod:`loratools.progress`."""
        return self.path / "progress.json"

    def write(self, command: FrozenCommand) -> None:
        """Freeze what is run."""
        write_text(self.path / "job.json", json.dumps(asdict(command), ensure_ascii=False))

    def command(self) -> FrozenCommand:
        """What is run."""
        content = json.loads((self.path / "job.json").read_text(encoding="utf-8"))
        return FrozenCommand(tuple(content["argv"]), content["cwd"], content["stop_file"])

    def clear(self) -> None:
        """Forget how it went before, when it is run again; its log stays."""
        for name in ("begun", "end.json", "ask.json", "progress.json"):
            (self.path / name).unlink(missing_ok=True)

    def alive(self) -> AbstractContextManager[None]:
        """Held by the job's process."""
        return locked(self.path / "alive")

    @property
    def is_alive(self) -> bool:
        """Whether the job's process lives."""
        return is_locked(self.path / "alive")

    def begin(self) -> None:
        """Say that the process has begun, and where its part of the log does."""
        write_text(self.path / "begun", str(self.log.stat().st_size if self.log.exists() else 0))

    @property
    def begun(self) -> bool:
        """Whether the process has begun."""
        return (self.path / "begun").exists()

    def ask(self, *, stop: int, after_epoch: bool) -> None:
        """Ask the process to stop.

        Args:
            stop: how many times it was asked: the first time it finishes its step, then it ends at once.
            after_epoch: end after the epoch.
        """
        write_text(self.path / "ask.json", json.dumps({"stop": stop, "after_epoch": after_epoch}))

    def asked(self) -> tuple[int, bool]:
        """What :meth:`ask` was called with last."""
        content = read_json(self.path / "ask.json")
        return int(content.get("stop", 0)), bool(content.get("after_epoch", False))

    def end(self, code: int, error: str) -> None:
        """Say how the process ended."""
        write_text(self.path / "end.json", json.dumps(asdict(JobEnd(code, error, time.time()))))

    def ended(self) -> JobEnd | None:
        """How it ended; None while it has not said so."""
        content = read_json(self.path / "end.json")
        try:
            return JobEnd(int(content["code"]), str(content["error"]), float(content["ended"])) if content else None
        except (KeyError, ValueError):
            return None

    def last_error(self) -> str:
        """The last line of the log since it has begun that begins with ``error:``, without that word; empty where there
        is none."""
        try:
            begun = int((self.path / "begun").read_text(encoding="ascii") or 0)
            with open(self.log, "rb") as stream:
                stream.seek(max(begun, stream.seek(0, 2) - 16_384))
                lines = stream.read().decode("utf-8", "replace").splitlines()
        except (OSError, ValueError):
            return ""
        found = [line for line in lines if line.startswith("error: ")]
        return found[-1].removeprefix("error: ") if found else ""


def read_json(path: Path) -> Mapping[str, Any]:
    """A JSON object; empty where there is none, or it is being written."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def progress_of(file: Path) -> Progress:
    """What a bar's report says; nothing where there is none."""
    content = read_json(file)
    with contextlib.suppress(ValueError, TypeError, LoratoolsError):
        return Progress(
            done=round(content.get("done", 0)),
            total=None if content.get("total") is None else round(content["total"]),
            unit=str(content.get("unit", "")),
            left_seconds=content.get("left"),
            note=str(content.get("what", "")),
        )
    return Progress()
