"""From what the page asks for to a command of the command line, and the recipe's step that does the same."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath, PureWindowsPath
from typing import Any

HERE = "{job}"  # in an argument: the job's own folder, where its files are


@dataclass(frozen=True)
class Command:
    """A job to be.

    Attributes:
        argv: after ``loratools``.
        go_on: arguments that are added when it was stopped and goes on.
        step: the recipe's step, as YAML; empty where a recipe has none.
        results: files and folders that it writes; two jobs that write one are never run at once.
        run: ``OUT/NAME`` of a training, or of the run whose epochs are judged.
        stop_file: asks a training to stop.
        recipe: that it reads, which is run as it was when the job was added.
        files: that the job keeps in its own folder: name -> content.
    """

    kind: str
    title: str
    argv: tuple[str, ...]
    cwd: Path
    heavy: bool
    step: str = ""
    go_on: tuple[str, ...] = ()
    results: tuple[Path, ...] = ()
    run: Path | None = None
    stop_file: Path | None = None
    recipe: Path | None = None
    files: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """As a person types it."""
        return command_text(self.argv, self.cwd)


def command_text(argv: Sequence[str], cwd: PurePath) -> str:
    """``loratools`` with its arguments as the system's shell reads them, where paths below the folder that it runs in
    are written from there."""
    words = ["loratools", *(from_folder(own, cwd) for own in argv)]
    return subprocess.list2cmdline(words) if isinstance(cwd, PureWindowsPath) else shlex.join(words)


def from_folder(text: str, folder: PurePath) -> str:
    """``text`` with the paths below ``folder`` written from there."""
    sign = "\\" if isinstance(folder, PureWindowsPath) else "/"
    return text.replace(f"{str(folder).rstrip(sign)}{sign}", "")


def step_text(name: str, kind: str, options: Any, out: str = "") -> str:
    """A recipe's step as YAML."""
    import yaml

    body = {kind: options, **({"out": out} if out else {})}
    return yaml.safe_dump({name: body}, sort_keys=False, allow_unicode=True, width=1_000).strip()
