"""Several calls at the same moment, and renaming as Windows does it."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest


def at_once(*calls: Callable[[], object]) -> list[object]:
    """The results of calls that start at the same moment; the first error is raised."""
    meet = threading.Barrier(len(calls))

    def one(call: Callable[[], object]) -> object:
        meet.wait(30)
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(one, calls))


def rename_strictly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ``os.rename`` refuse a target that exists, even an empty folder, as on Windows."""
    rename = os.rename

    def strict(source: Path, target: Path) -> None:
        if Path(target).exists():
            raise FileExistsError(errno.EEXIST, "it exists", str(target))
        rename(source, target)

    monkeypatch.setattr(os, "rename", strict)
