"""The record of one run of a step: what made its result, and the digest of every file in it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from loratools.files import sha256


@dataclass(frozen=True)
class ReadInput:
    """Something that a step read: what it is called, the digest of its content, and the step that made it, if any."""

    label: str
    digest: str
    step: str | None


@dataclass(frozen=True)
class Record:
    """What is known of one run of a step.

    Attributes:
        out: its output's path from the work folder.
        done: False for a step that was interrupted, whose work can go on.
        files: path below ``out`` ("" for ``out`` itself) -> sha256; empty until the step is done.
        options, sources: what the key was made of, so that a later change can be named.
        units: how much there was to do (pictures, steps), for estimates; None if it cannot be counted.
        size, memory: bytes of the result, and of the process at its peak.
    """

    key: str
    out: str
    done: bool = False
    files: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    summary: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    name: str = ""
    kind: str = ""
    revision: int = 0
    version: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    sources: tuple[ReadInput, ...] = ()
    units: float | None = None
    size: int = 0
    memory: int = 0

    def json(self) -> str:
        """As JSON text."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False)


def read_record(path: Path) -> Record | None:
    """The record at ``path``; None if there is none, or it is no record."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        sources = tuple(ReadInput(**source) for source in values.get("sources", ()))
        return Record(**{**values, "sources": sources})
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def intact(record: Record, out: Path) -> bool:
    """Whether every file of a finished step is there at ``out``, byte for byte."""
    try:
        return all(sha256(out / name if name else out) == digest for name, digest in record.files.items())
    except OSError:
        return False


def file_digests(out: Path) -> dict[str, str]:
    """sha256 of every file of a result; hidden ones do not count."""
    if out.is_file():
        return {"": sha256(out)}
    files = sorted(path for path in out.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {path.relative_to(out).as_posix(): sha256(path) for path in files}
