"""Ctrl-C finishes the step and saves the state; a second one stops at once. A file asks for the same from outside, see
:mod:`.stop_file`.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from loratools.train.distributed import Ranks
from loratools.train.stop_file import EPOCH, STEP

_LOOK = 1.0  # seconds between two looks for such a file
_STOPS: dict[int, Any] = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}

FINISHING = "finishing the step and saving the state"


class Interrupted(KeyboardInterrupt):
    """A run has stopped because of a signal, and its state is on disk.

    It is no LoratoolsError, since it is no error: like Ctrl-C, it passes through ``except Exception``.

    Attributes:
        step, steps: ``step`` of ``steps`` optimiser steps are done.
        signal: the number of the signal.
        ranks: the run's processes; one of them should print the message.
    """

    def __init__(self, step: int, steps: int, asked_by: int, ranks: Ranks = Ranks()) -> None:  # noqa: B008  (frozen)
        super().__init__(f"stopped after step {step} of {steps}, and the state is saved")
        self.step, self.steps, self.signal, self.ranks = step, steps, asked_by, ranks


class StopRequest:
    """While entered, the first Ctrl-C (SIGINT) or SIGTERM only sets :attr:`asked`; a second one stops the process.

    With several processes the launcher repeats Ctrl-C to each of them, so any number of SIGINTs counts as one; and
    SIGTERM, by which the launcher ends the others when one has failed, is not handled. Outside the main thread, where
    Python cannot handle signals, nothing changes.

    Args:
        say: on stderr, what happens now; an empty text for nothing.
        file: asks the same once it is there; one that is left of an earlier run is deleted.
    """

    def __init__(
        self,
        ranks: Ranks = Ranks(),  # noqa: B008  (frozen)
        *,
        say: str = FINISHING,
        file: Path | None = None,
    ) -> None:
        self.asked = 0  # the number of the signal that came, 0 for none
        self._ranks, self._say, self._file = ranks, say, file if ranks.main else None
        self._looked = 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if self._file is not None:
            self._file.unlink(missing_ok=True)
        handled = (signal.SIGINT, signal.SIGTERM) if self._ranks.world == 1 else (signal.SIGINT,)
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._handle) for number in handled}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()
        if self._file is not None:
            self._file.unlink(missing_ok=True)

    def agreed(self, *, epoch_ends: bool = False) -> bool:
        """Whether any process was asked to stop, so that all do; all must call it at the same step.

        Args:
            epoch_ends: whether an epoch is over, after which a file may have asked to stop.
        """
        self._look(epoch_ends)
        if self._ranks.world > 1 and self._ranks.any(self.asked > 0):
            self.asked = self.asked or int(signal.SIGINT)
        return self.asked > 0

    def _look(self, epoch_ends: bool) -> None:
        """Take in what the file asks."""
        if self._file is None or self.asked or (not epoch_ends and time.monotonic() - self._looked < _LOOK):
            return
        self._looked = time.monotonic()
        try:
            word = self._file.read_text(encoding="utf-8").strip()
        except OSError:  # there is none, or it is being written
            return
        if word == STEP or (word == EPOCH and epoch_ends):
            self.asked = int(signal.SIGINT)

    def _handle(self, number: int, _: FrameType | None) -> None:
        if not self.asked and self._ranks.main and self._say:
            again = "; once more stops at once" if self._ranks.world == 1 else ""
            # not print: the signal may have come in the middle of one
            os.write(2, f"\n{self._say}{again}\n".encode())
        self.asked = number
        if self._ranks.world == 1:
            self._let_stop()

    def _let_stop(self) -> None:
        """Have the next signal do what it did before, or stop the process if it was ignored: ``train ... &`` in a
        script ignores Ctrl-C, and a second one was promised to stop."""
        for number, handler in self._before.items():
            signal.signal(number, _STOPS[number] if handler == signal.SIG_IGN else handler)

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
