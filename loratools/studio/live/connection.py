"""One page's side of the live pictures.

At most one frame of a stream is on its way unacknowledged, and what waits to be sent is bounded, however slow the page
or the line to it is.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass

from loratools.studio.api.messages import Drawing, Note
from loratools.studio.live.engine import Answer, Engine
from loratools.studio.live.frame import Frame
from loratools.studio.live.wish import PictureWish

Message = str | bytes  # text is JSON, bytes are a frame
_MOST_NOTES = 20  # that wait to be sent


@dataclass
class _Stream:
    """``sent`` is the frame that was not acknowledged yet, ``next`` the newest one that came since."""

    sent: int | None = None
    next: tuple[int, Frame] | None = None


class LiveConnection:
    """Joins an engine to a page. Its methods belong to the event loop that it is made in.

    Attributes:
        dropped: frames that were replaced by newer ones before they were sent.
    """

    def __init__(self, engine: Engine) -> None:
        self._loop = asyncio.get_running_loop()
        self._streams: dict[int, _Stream] = {}
        self._outbox: OrderedDict[Hashable, Message] = OrderedDict()
        self._wake = asyncio.Event()
        self._page = engine.connect(self._from_thread)
        self.dropped = 0

    async def draw(self, stream: int, seq: int, wish: PictureWish) -> None:
        """Show a wish; the disk is looked at on a thread."""
        await asyncio.to_thread(self._page.draw, stream, seq, wish)

    def acknowledge(self, stream: int, seq: int) -> None:
        """The page has shown a frame, so that it may have the next one."""
        own = self._streams.get(stream)
        if own is None or own.sent is None or seq < own.sent:
            return
        own.sent = None
        if own.next is not None:
            newest, own.next = own.next, None
            self._send_frame(stream, *newest)
            self._page.hold(stream, False)

    def cancel(self, stream: int) -> None:
        """Nothing more is wanted of a stream."""
        self._page.cancel(stream)
        own = self._streams.get(stream)
        if own is not None and own.next is not None:
            own.next = None
            self._page.hold(stream, False)

    def close(self) -> None:
        """The page is gone."""
        self._page.close()

    async def next_message(self) -> Message:
        """What is to be sent next, once there is something."""
        while not self._outbox:
            self._wake.clear()
            await self._wake.wait()
        return self._outbox.popitem(last=False)[1]

    def refuse(self, text: str, key: Hashable = None) -> None:
        """Send a text message; one under a key takes the place of another that waits there."""
        self._put(key or object(), text)

    def _from_thread(self, stream: int, seq: int, answer: Answer) -> None:
        try:
            self._loop.call_soon_threadsafe(self._arrived, stream, seq, answer)
        except RuntimeError:  # the loop has ended, and with it the page
            self._page.close()

    def _arrived(self, stream: int, seq: int, answer: Answer) -> None:
        if isinstance(answer, Frame):
            self._frame(stream, seq, answer)
        elif isinstance(answer, Drawing):
            self._put(("drawing", stream), answer.model_dump_json())
        elif isinstance(answer, Note):
            if sum(isinstance(key, str) for key in self._outbox) < _MOST_NOTES:
                self._put(answer.text, answer.model_dump_json())
        else:
            self._put(("failed", stream), answer.model_dump_json())

    def _frame(self, stream: int, seq: int, frame: Frame) -> None:
        own = self._streams.setdefault(stream, _Stream())
        if own.sent is None:
            self._send_frame(stream, seq, frame)
            return
        self.dropped += own.next is not None
        if own.next is None:
            self._page.hold(stream, True)
        own.next = seq, frame

    def _send_frame(self, stream: int, seq: int, frame: Frame) -> None:
        self._streams[stream].sent = seq
        self._outbox.pop(("drawing", stream), None)  # older than the frame
        self._put(("frame", stream), frame.packed(stream, seq))

    def _put(self, key: Hashable, message: Message) -> None:
        self._outbox[key] = message
        self._wake.set()
