"""Ctrl-C finishes the step and saves the state; a second one stops at once."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from loratools.train.distributed import Ranks


class Interrupted(KeyboardInterrupt):
    """A run was asked to stop and has: its state is on disk. ``signal`` is what asked, ``step`` of ``steps`` is done.

    Not an error, and so no LoratoolsError: to ``except Exception`` it is the Ctrl-C that it was. ``ranks`` are the
    run's processes, of which one should tell.
    """

    def __init__(self, step: int, steps: int, asked_by: int, ranks: Ranks = Ranks()) -> None:  # noqa: B008  (frozen)
        super().__init__(f"stopped after step {step} of {steps}, and the state is saved")
        self.step, self.steps, self.signal, self.ranks = step, steps, asked_by, ranks


class StopRequest:
    """While entered, the first Ctrl-C (SIGINT, or SIGTERM) only sets :attr:`asked`; a second one acts as ever.

    With several processes a launcher repeats Ctrl-C to each of them, so there only the first one counts; and SIGTERM,
    by which it ends those that are left when one has failed, acts as ever. Outside the main thread, where Python lets
    nobody handle signals, nothing changes.
    """

    def __init__(self, ranks: Ranks = Ranks()) -> None:  # noqa: B008  (frozen)
        self.asked = 0  # the signal's number
        self._ranks = ranks
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        heard = (signal.SIGINT, signal.SIGTERM) if self._ranks.world == 1 else (signal.SIGINT,)
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._handle) for number in heard}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def agreed(self) -> bool:
        """Whether to stop now. With several processes it is theirs together, and all must ask at the same step."""
        if self._ranks.world > 1 and self._ranks.any(self.asked > 0):
            self.asked = self.asked or int(signal.SIGINT)
        return self.asked > 0

    def _handle(self, number: int, _: FrameType | None) -> None:
        if not self.asked and self._ranks.main:
            again = "; once more stops at once" if self._ranks.world == 1 else ""
            # not print: the signal may have come in the middle of one
            os.write(2, f"\nfinishing the step and saving the state{again}\n".encode())
        self.asked = number
        if self._ranks.world == 1:
            self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
