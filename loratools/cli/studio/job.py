"""The process of one job of the studio's queue: ``python -m loratools.cli.studio.job FOLDER``.

It runs the command that was frozen in the job's folder as the command line does, does what it is asked there, and says
how it ended. It needs no server, and outlives it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from loratools.errors import HeldError

if TYPE_CHECKING:
    from loratools.studio.jobs.job_folder import FrozenCommand, JobFolder

_LOOK = 0.3  # seconds between two looks at what it is asked
_INTERRUPTED = 130
_TRIES, _PAUSE = 20, 0.05  # to take the job's lock, and seconds between two of them


def main(arguments: Sequence[str]) -> int:
    """Run the job in the folder that is named; returns the exit code."""
    from loratools.studio.jobs.job_folder import JobFolder

    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as of whatever a script runs in its background
        signal.signal(signal.SIGINT, signal.default_int_handler)
    folder = JobFolder(Path(arguments[0]))
    with contextlib.ExitStack() as held:
        if not _held(folder, held):
            return 0  # the job's process lives already
        command = folder.command()
        folder.begin()
        threading.Thread(target=_listen, args=(folder, command), daemon=True).start()
        code = _run(command.argv)
        folder.end(code, folder.last_error() if code else "")
        return code


def _held(folder: JobFolder, stack: contextlib.ExitStack) -> bool:
    """Take the job's lock; a server that looks whether somebody has it takes it for a moment as well."""
    for _ in range(_TRIES):
        try:
            stack.enter_context(folder.alive())
            return True
        except HeldError:
            time.sleep(_PAUSE)
    return False


def _run(argv: Sequence[str]) -> int:
    """The exit code of the command line, which prints what is wrong."""
    from loratools.cli import cli

    try:
        cli.main(list(argv), prog_name="loratools")
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else int(done.code is not None)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


def _listen(folder: JobFolder, command: FrozenCommand) -> None:
    """Do what is asked in the folder: interrupt as Ctrl-C does, once for each time, or have a training end."""
    from loratools.launch.worker import interrupt
    from loratools.train.stop_file import EPOCH, ask_to_stop

    done = 0
    stop_file = Path(command.stop_file) if command.stop_file else None
    while True:
        stops, after_epoch = folder.asked()
        if stops > done:
            done += 1
            interrupt()
            if done > 2:
                os._exit(_INTERRUPTED)
        elif after_epoch and stop_file is not None and not stop_file.exists():
            ask_to_stop(stop_file, EPOCH)
        time.sleep(_LOOK)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
