"""A picture on its way to the page: a header of 16 bytes, then the bytes of a JPEG, PNG or WebP."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Literal

Encoding = Literal["jpeg", "png", "webp"]
HEADER = struct.Struct("<BBHIHHI")  # kind, flags, stream, seq, width, height, bytes that follow; little endian
_KINDS: dict[Encoding, int] = {"jpeg": 1, "png": 2, "webp": 3}
_PREVIEW, _CACHED = 1, 2  # flags


@dataclass(frozen=True)
class Frame:
    """An encoded picture.

    Attributes:
        preview: drawn in few steps, or smaller than asked for; else it is the whole picture.
        cached: it had been drawn before.
    """

    encoding: Encoding
    width: int
    height: int
    data: bytes
    preview: bool = False
    cached: bool = False

    def packed(self, stream: int, seq: int) -> bytes:
        """The websocket's binary message."""
        flags = _PREVIEW * self.preview | _CACHED * self.cached
        head = HEADER.pack(_KINDS[self.encoding], flags, stream, seq, self.width, self.height, len(self.data))
        return head + self.data


def unpacked(message: bytes) -> tuple[Frame, int, int]:
    """A binary message's frame, stream and seq.

    Raises:
        ValueError: if it is none.
    """
    if len(message) < HEADER.size:
        raise ValueError(f"a frame has a header of {HEADER.size} bytes, and this message has {len(message)}")
    kind, flags, stream, seq, width, height, size = HEADER.unpack_from(message)
    data = message[HEADER.size :]
    encoding = {number: name for name, number in _KINDS.items()}.get(kind)
    if encoding is None or len(data) != size:
        raise ValueError(f"no frame: kind {kind}, {len(data)} bytes where its header says {size}")
    return Frame(encoding, width, height, data, bool(flags & _PREVIEW), bool(flags & _CACHED)), stream, seq
