"""The websocket's text messages; pictures go as binary frames (:mod:`loratools.studio.live`)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from loratools.studio.api.base import Wire
from loratools.studio.api.stacks import PictureSettings, Stack
from loratools.studio.api.words import Failure, Words

Stream = Annotated[int, Field(ge=0, lt=2**16)]
Sequence = Annotated[int, Field(ge=0, lt=2**32)]


class Draw(Wire):
    """Draw a stack; a newer ``seq`` of a stream replaces an older one. ``drag``: a few-step picture; ``rest``: the
    whole one, as the file written in ``dtype`` renders it. Streams: 0 base, 1 before, 2 now, 3 A, 4 B."""

    type: Literal["draw"]
    stream: Stream
    seq: Sequence
    stack: Stack
    settings: PictureSettings
    quality: Literal["drag", "rest"]
    dtype: Literal["fp16", "bf16", "fp32"] = "fp16"


class Ack(Wire):
    """The frame of this number has been shown."""

    type: Literal["ack"]
    stream: Stream
    seq: Sequence


class Cancel(Wire):
    """Nothing more is wanted of a stream."""

    type: Literal["cancel"]
    stream: Stream


class Watch(Wire):
    """Send events from now on, and before that those after the id ``after``."""

    type: Literal["watch"]
    after: int = 0


ClientMessage = Annotated[Draw | Ack | Cancel | Watch, Field(discriminator="type")]


class Drawing(Wire):
    """How far a picture is; at most ten a second."""

    type: Literal["drawing"] = "drawing"
    stream: int
    seq: int
    step: int
    steps: int


class Failed(Failure):
    """A picture that cannot be drawn."""

    type: Literal["failed"] = "failed"
    stream: int
    seq: int

    @staticmethod
    def of(failure: Failure, stream: int, seq: int) -> Failed:
        """A failure, as that of a stream's picture."""
        return Failed(**failure.model_dump(), stream=stream, seq=seq)


class Note(Words):
    """Something that a person should know, such as a smaller preview for want of memory."""

    type: Literal["note"] = "note"

    @staticmethod
    def of(said: Words) -> Note:
        """Words, as a message."""
        return Note(**said.model_dump())


class Event(Wire):
    """Something changed. ``job``: a :class:`.jobs.Job`; ``log``: ``{"job": id, "last": number}``; ``run``, ``file``:
    ``{"ids": [...]}``, to be read anew; ``norms``: ``{"ids": [...]}`` of LoRAs whose norm shares are known now;
    ``reset``: events were missed, read everything anew."""

    type: Literal["event"] = "event"
    id: int
    event: Literal["job", "run", "file", "log", "norms", "reset"]
    data: dict[str, Any]


ServerMessage = Drawing | Failed | Note | Event
