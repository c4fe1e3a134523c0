"""Frames that were drawn before, so that dragging back shows them at once."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace

from loratools.studio.live.frame import Frame

MOST = 32 << 20  # bytes
MANY = 1_000  # frames: of small pictures the bytes alone would be tens of thousands, and as many keys and objects


class KeptFrames:
    """Frames by their wish's key; beyond ``most`` bytes, or ``many`` frames, those that were shown longest ago go."""

    def __init__(self, most: int = MOST, many: int = MANY) -> None:
        self._most, self._many, self._bytes = most, many, 0
        self._frames: OrderedDict[str, Frame] = OrderedDict()

    def get(self, key: str) -> Frame | None:
        """The frame under ``key``, marked as drawn before; None for none."""
        frame = self._frames.get(key)
        if frame is None:
            return None
        self._frames.move_to_end(key)
        return replace(frame, cached=True)

    def put(self, key: str, frame: Frame) -> None:
        """Keep a frame, unless it alone is too large."""
        self._bytes -= len(self._frames.pop(key).data) if key in self._frames else 0
        if len(frame.data) > self._most:
            return
        self._frames[key] = frame
        self._bytes += len(frame.data)
        while self._bytes > self._most or len(self._frames) > self._many:
            _, old = self._frames.popitem(last=False)
            self._bytes -= len(old.data)
