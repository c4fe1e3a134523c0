"""Processes that end by SIGKILL at a moment of one's choice.

They are forked, so that what the parent has imported need not be imported in each; it must not have started a thread.
A kill is ``{"after": seconds}`` (since work has begun) or ``{"while_writing": pattern, "nth": n}``: half of the n-th
file with such a name is on the disk then.
"""

from __future__ import annotations

import fnmatch
import os
import signal
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from loratools import files

Kill = dict[str, Any]


def forked(run: Callable[[], object], kill: Kill | None, begun: Callable[[], bool]) -> int:
    """Call ``run`` in a process of its own and kill that; the signal that ended it, or minus its exit status.

    Args:
        kill: None leaves it alone.
        begun: whether its work has begun; seconds are counted from then.
    """
    child = started(run, kill)
    if kill is not None and "after" in kill:
        deadline = time.monotonic() + 60
        while not begun() and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(kill["after"])
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else -os.WEXITSTATUS(status)


def started(run: Callable[[], object], kill: Kill | None = None) -> int:
    """Call ``run`` in a process of its own, which dies while it writes if ``kill`` says so; its number."""
    child = os.fork()
    if child == 0:
        if kill is not None and "while_writing" in kill:
            _die_while_writing(kill["while_writing"], kill["nth"])
        status = 1
        try:
            run()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return child


def _die_while_writing(pattern: str, nth: int) -> None:
    original, left = files._sync, nth

    def sync(path: Path) -> None:
        nonlocal left
        if fnmatch.fnmatch(path.name, pattern):
            left -= 1
            if left == 0:
                os.truncate(path, path.stat().st_size // 2)
                os.kill(os.getpid(), signal.SIGKILL)
        original(path)

    files._sync = sync
