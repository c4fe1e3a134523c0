"""One process of a job: ``python -m loratools.launch.worker FOLDER``, started by the job's launcher.

With ``FOLDER LOCK [WARM_UP]`` jobs are still to come, one after another: the function WARM_UP is called, and they are
waited for.

It calls a job's function, and ends when the process that started it is gone, so that nothing computes for nobody.
"""

from __future__ import annotations

import _thread
import contextlib
import gc
import importlib
import itertools
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from loratools.errors import LaunchError, LoratoolsError
from loratools.files import is_locked
from loratools.launch.job import JobFolder
from loratools.launch.rank import Rank

FAILED, INTERRUPTED = 1, 130
_LOOK = 0.05  # seconds between looks for a job to come
_LOOKS = 10  # of them between two at whether the process that would give it is alive
_POLL = 0.5  # seconds between looks at whether the process that started the job is alive
_GRACE = 20.0  # seconds in which the job may stop by itself once that one is gone


def main(arguments: Sequence[str]) -> int:
    """Run the job in the folder that is the first argument, or one job after another; returns the exit code."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as after `loratools ... &` in a script
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(signal, "SIGBREAK"):  # all that Windows can send to processes of another group, and it would end them
        signal.signal(signal.SIGBREAK, lambda number, frame: signal.raise_signal(signal.SIGINT))
    folder, *waits = arguments
    return _serve(Path(folder), Path(waits[0]), *waits[1:]) if waits else _run(JobFolder.of(folder), Rank.here())


def _serve(folder: Path, lock: Path, warm_up: str | None = None) -> int:
    """Run the jobs in ``FOLDER/1``, ``FOLDER/2`` and so on as they come, until one fails or nobody holds ``lock``."""
    rank = Rank.here()
    try:
        if warm_up is not None:
            _function(warm_up)()
        for number in itertools.count(1):
            job = JobFolder(folder / str(number))
            if not _came(job, lock):
                return 0
            code = _run(job, rank)
            if code:
                return code
            job.end(rank)
            _free_memory()
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception:
        if "--debug" in sys.argv:
            raise
        return FAILED  # the job is run by processes that do not get ready first, and they say what is wrong
    return 0


def _came(job: JobFolder, lock: Path) -> bool:
    """Wait for a job; False where whoever would give it is gone."""
    unseen, looks = 0, 0
    while not job.has_job():
        looks += 1
        if looks % _LOOKS == 0:
            unseen = 0 if is_locked(lock) else unseen + 1
            if unseen == 2:
                return False
        time.sleep(_LOOK)
    return True


def _free_memory() -> None:
    """Give back what the last job no longer holds."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _run(folder: JobFolder, rank: Rank) -> int:
    """Run a job; 0, or the exit code of this process."""
    try:
        job = folder.job()
        folder.start(rank)
        os.chdir(job.folder)
        with _watching(Path(job.lock), rank):
            result = _function(job.target)(**job.arguments)
    except KeyboardInterrupt:  # the process that started the job reports it, if it is there
        with contextlib.suppress(LoratoolsError):
            folder.note_stopped(rank)
        return INTERRUPTED
    except Exception as error:
        if "--debug" in sys.argv:
            raise
        folder.fail(rank, *_named(error))
        return FAILED
    if rank.main:
        folder.finish(result)
    return 0


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


@contextlib.contextmanager
def _watching(lock: Path, rank: Rank) -> Iterator[None]:
    """While entered, the job is interrupted once nobody holds ``lock``, and the process ended if it does not stop."""
    over = threading.Event()
    threading.Thread(target=_watch, args=(lock, rank, over), daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _watch(lock: Path, rank: Rank, over: threading.Event) -> None:
    unseen, enough = 0, 2 if rank.main else 4  # over a network a lock may be seen late; the main one says it first
    while unseen < enough:
        unseen = 0 if is_locked(lock) else unseen + 1
        if over.wait(_POLL):
            return
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
