"""The renderer's process: draws one wish after another, and hears between two steps that one is no longer wanted.

It is started anew by :mod:`.renderer` with ``spawn``, so that it works on every system alike and has nothing of the
server's. It ends when the server does, however that ended.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import threading
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from loratools.errors import LoratoolsError, StudioError
from loratools.studio.api.words import Failure, Words, failure, failure_of, quoted_failure
from loratools.studio.live.frame import Frame
from loratools.studio.live.painter_options import PainterOptions
from loratools.studio.live.wish import PictureWish

if TYPE_CHECKING:
    from loratools.studio.live.painter import Painter

# Threads of a CPU that wait for each other sleep instead of spinning; torch reads this when it is imported. Beside
# other programs on two cores a picture of the pocket base takes 0.5 s in place of 2 to 6; its numbers are the same.
_WAITING = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}


@dataclass(frozen=True)
class Draw:
    """To the process: draw this; ``run`` is the number of the attempt."""

    run: int
    wish: PictureWish


@dataclass(frozen=True)
class Stop:
    """To the process: end the attempt at its next step."""

    run: int


@dataclass(frozen=True)
class Step:
    """From the process: how far the attempt is."""

    run: int
    done: int
    steps: int


@dataclass(frozen=True)
class Ended:
    """From the process: the attempt's frame; or what is wrong; or neither, where it was stopped."""

    run: int
    frame: Frame | None = None
    failure: Failure | None = None


@dataclass(frozen=True)
class Said:
    """From the process: a sentence for the person at the page."""

    words: Words


ToProcess = Draw | Stop
FromProcess = Step | Ended | Said


class _Inbox:
    """What the server sends, read on a thread so that it is there between two steps."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.draws: queue.Queue[Draw] = queue.Queue()
        self.stopped = 0  # the attempt that is to end; attempts' numbers rise
        threading.Thread(target=self._read, name="inbox", daemon=True).start()

    def _read(self) -> None:
        while True:
            try:
                message = self._connection.recv()
            except (EOFError, OSError):
                os._exit(0)  # the server is gone, and nobody is left to draw for
            if isinstance(message, Stop):
                self.stopped = max(self.stopped, message.run)
            else:
                self.draws.put(message)


def main(connection: Connection, options: PainterOptions) -> None:
    """Serve the connection until it is closed."""
    with contextlib.suppress(ValueError, OSError):
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is the server's, which then closes the connection
    for name, value in _WAITING.items():
        os.environ.setdefault(name, value)
    inbox = _Inbox(connection)
    from loratools.studio.live.painter import Painter

    painter = Painter(options, lambda words: connection.send(Said(words)))
    while True:
        draw = inbox.draws.get()
        try:
            connection.send(_drawn(painter, draw, inbox, connection))
            painter.between()
        except Exception as error:  # whatever it was, a fresh process is sounder than this one
            traceback.print_exc()
            reason = (str(error).strip().splitlines() or [""])[0]
            kind = type(error).__name__
            connection.send(Ended(draw.run, failure=failure("live.fault", kind=kind, reason=reason)))
            raise SystemExit(1) from error


def _drawn(painter: Painter, draw: Draw, inbox: _Inbox, connection: Connection) -> Ended:
    from loratools.studio.live.painter import Stopped

    def on_step(done: int, steps: int) -> None:
        if inbox.stopped >= draw.run:
            raise Stopped
        if steps:
            connection.send(Step(draw.run, done, steps))

    try:
        on_step(0, 0)
        return Ended(draw.run, painter.draw(draw.wish, on_step))
    except Stopped:
        return Ended(draw.run)
    except StudioError as error:
        return Ended(draw.run, failure=failure_of(error))
    except (LoratoolsError, OSError) as error:
        return Ended(draw.run, failure=quoted_failure(error))
