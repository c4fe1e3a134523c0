"""The files below a folder that the studio could be interested in, with what tells whether they have changed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_SUFFIXES = (".safetensors", ".ckpt", ".jsonl", ".yaml", ".yml", ".verdict.json")
_NAMES = ("grid.json", "votes.json", "model_index.json", "tune.json")
_SKIPPED = ("node_modules", "__pycache__", "site-packages")
MOST = 200_000  # entries of one root; what lies beyond is not listed


@dataclass(frozen=True, order=True)
class Stamp:
    """What changes when a file does."""

    mtime_ns: int
    size: int


def walk(
    root: Path,
    allowed: Callable[[Path], bool],
    most: int = MOST,
    on_folder: Callable[[Path, Sequence[str]], None] | None = None,
) -> Iterator[tuple[Path, Stamp]]:
    """Interesting files below ``root``, breadth first; hidden folders are left out, and so is what cannot be read.

    Args:
        allowed: whether the target of a symlink may be looked at.
        most: entries after which to stop.
        on_folder: called with each folder and the names that are in it.
    """
    folders, seen, count = [root], {root}, 0
    for folder in folders:
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            continue
        if on_folder is not None:
            on_folder(folder, [entry.name for entry in entries])
        for entry in entries:
            count += 1
            if count > most:
                return
            if entry.name.startswith(".") or entry.name in _SKIPPED:
                continue
            path = Path(entry.path)
            try:
                if entry.is_symlink() and not allowed(path):
                    continue
                if entry.is_dir():
                    real = path.resolve() if entry.is_symlink() else path
                    if real not in seen:
                        seen.add(real)
                        folders.append(path)
                elif is_interesting(entry.name) and entry.is_file():  # a pipe would never end
                    facts = entry.stat()
                    yield path, Stamp(facts.st_mtime_ns, facts.st_size)
            except (OSError, RuntimeError):  # it went away at this moment, or is a circle of symlinks
                continue


def is_interesting(name: str) -> bool:
    """Whether a file of this name is looked at."""
    return name in _NAMES or name.lower().endswith(_SUFFIXES)
