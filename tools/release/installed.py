"""The wheel in an empty environment, used from another folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

_TAIL = 300  # characters of an error that are shown


def environment(wheel: Path, folder: Path) -> Path:
    """Install the wheel and what it needs into a new environment, and return its interpreter.

    Raises:
        subprocess.CalledProcessError: if pip cannot; it has said why.
    """
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = next(path for name in ("bin/python", "Scripts/python.exe") if (path := folder / name).exists())
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", str(wheel)], check=True)
    return python


def commands(text: str) -> list[str]:
    """The commands of ``loratools`` that a page's blocks of code call or its table lists, each once."""
    blocks = "\n".join(re.findall(r"```(?:console|bash|sh)\n(.*?)```", text, re.DOTALL))
    listed = " ".join(re.findall(r"^\| ((?:`[a-z-]+`(?:, )?)+) \|", text, re.MULTILINE))
    return sorted({*re.findall(r"\bloratools ([a-z][a-z-]*)", blocks), *re.findall(r"`([a-z-]+)`", listed)})


def missing_commands(python: Path, root: Path, work: Path) -> Iterator[str]:
    """README's commands that this environment does not know, asked from another folder than the tree."""
    for name in commands((root / "README.md").read_text(encoding="utf-8")):
        error = _fails(python, [name, "--help"], work)
        if error is not None:
            yield f"`loratools {name}` does not run: {error}"


def failing_demo(python: Path, folder: Path) -> Iterator[str]:
    """Whether ``loratools demo --quick`` fails in ``folder``."""
    folder.mkdir(parents=True)
    error = _fails(python, ["demo", "--quick", "-o", str(folder / "demo")], folder)
    if error is not None:
        yield f"`loratools demo --quick` fails: {error}"


def _fails(python: Path, arguments: list[str], folder: Path) -> str | None:
    """Why a command fails, by the end of what it prints; None where it does not."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [str(python), "-P", "-m", "loratools", *arguments]
    done = subprocess.run(command, cwd=folder, env=clean, capture_output=True, encoding="utf-8", check=False)
    return None if done.returncode == 0 else (done.stderr or done.stdout)[-_TAIL:].strip()
