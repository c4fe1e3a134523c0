"""One process of a job: ``python -m loratools.launch.worker FOLDER``, started by the job's launcher.

With ``FOLDER LOCK WARM_UP`` the job is still to come: the function WARM_UP is called, and the job waited for.

It calls the job's function, and ends when the process that started the job is gone, so that nothing computes for
nobody.
"""

from __future__ import annotations

import _thread
import contextlib
import importlib
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loratools.errors import LaunchError, LoratoolsError
from loratools.files import is_locked
from loratools.launch.job import JobFolder
from loratools.launch.rank import Rank

FAILED, INTERRUPTED = 1, 130
_LOOK = 0.05  # seconds between looks for a job to come
_POLL = 0.5  # seconds between looks at whether the process that started the job is alive
_GRACE = 20.0  # seconds in which the job may stop by itself once that one is gone


def main(arguments: Sequence[str]) -> int:
    """Run the job in the folder that is the first argument; returns the exit code."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as after `loratools ... &` in a script
        signal.signal(signal.SIGINT, signal.default_int_handler)
    folder, rank = JobFolder.of(arguments[0]), Rank.here()
    try:
        if len(arguments) > 1:
            _prepare(folder, Path(arguments[1]), arguments[2])
        job = folder.job()
        folder.start(rank)
        os.chdir(job.folder)
        threading.Thread(target=_watch, args=(Path(job.lock), rank), daemon=True).start()
        result = _function(job.target)(**job.arguments)
    except KeyboardInterrupt:  # the process that started the job reports it
        return INTERRUPTED
    except Exception as error:
        if "--debug" in sys.argv:
            raise
        folder.fail(rank, *_named(error))
        return FAILED
    if rank.main:
        folder.finish(result)
    return 0


def _prepare(folder: JobFolder, lock: Path, warm_up: str) -> None:
    """Get ready for a job, and wait until it is there; ends where whoever would give it is gone."""
    _function(warm_up)()
    while not folder.has_job():
        if not is_locked(lock):
            raise KeyboardInterrupt
        time.sleep(_LOOK)


def _function(target: str) -> Any:
    """The function that a job names; only one of this package's."""
    module, _, name = target.partition(":")
    if not module.startswith("loratools."):
        raise LaunchError(f"the job {target} is none of loratools'")
    return getattr(importlib.import_module(module), name)


def _named(error: Exception) -> tuple[str, str]:
    """The class of an error and what it says, in one line."""
    if isinstance(error, LoratoolsError):
        return type(error).__name__, str(error)
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "LaunchError", "out of memory; use smaller sizes or batches, or fewer processes"
    return "LaunchError", f"unexpected {type(error).__name__}: {' '.join(str(error).split())[:400]}"


def _watch(lock: Path, rank: Rank) -> None:
    """Interrupt the job once nobody holds ``lock``, and end this process if it does not stop."""
    unseen = 0
    while unseen < 2:  # over a network a lock may be seen late
        unseen = 0 if is_locked(lock) else unseen + 1
        time.sleep(_POLL)
    if rank.main:
        with contextlib.suppress(OSError):  # the terminal may be gone too
            print("error: the process that started this one is gone; run the same again to go on", file=sys.stderr)
    interrupt()
    time.sleep(_GRACE)
    os._exit(FAILED)


def interrupt() -> None:
    """What Ctrl-C does, to the main thread."""
    main = threading.main_thread().ident
    if os.name == "nt" or main is None:
        _thread.interrupt_main()
    else:
        signal.pthread_kill(main, signal.SIGINT)  # this ends a wait in the system too


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
