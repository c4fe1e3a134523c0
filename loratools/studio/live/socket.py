"""The websocket ``/api/live``: JSON as text, pictures as binary frames.

A connection is three tasks: one reads the page's messages, one sends pictures and what is said of them, and one sends
events from where the page's last watch left off.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from typing import Any, Literal

from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.websockets import WebSocket, WebSocketDisconnect

from loratools.errors import StudioError
from loratools.studio.api.invalid import invalid
from loratools.studio.api.messages import Ack, Cancel, ClientMessage, Draw, Failed, Note, Sequence, Stream
from loratools.studio.api.words import Failure, failure, failure_of, words
from loratools.studio.context import Options, Studio
from loratools.studio.live.connection import LiveConnection
from loratools.studio.live.engine import Engine
from loratools.studio.live.fake import FakeEngine
from loratools.studio.live.give_way import give_way
from loratools.studio.live.painter_options import PainterOptions
from loratools.studio.live.renderer import Renderer
from loratools.studio.live.wishes import wish_of

_MESSAGES: TypeAdapter[ClientMessage] = TypeAdapter(ClientMessage)
_UNREADABLE = Note.of(words("live.unreadable")).model_dump_json()


def make_engine(options: Options) -> Engine:
    """What draws the pictures; its process starts with the first of them."""
    return FakeEngine() if options.fake_engine else Renderer(PainterOptions(device=options.device))


@contextlib.asynccontextmanager
async def live_service(studio: Studio, engine: Engine) -> AsyncIterator[None]:
    """The engine's time: as long as the server's."""
    giving_way = asyncio.create_task(give_way(studio, engine))
    try:
        yield
    finally:
        giving_way.cancel()
        await asyncio.to_thread(engine.close)


async def live_endpoint(socket: WebSocket) -> None:
    """One page's connection, until it leaves."""
    studio: Studio = socket.app.state.studio
    await socket.accept()
    connection = LiveConnection(socket.app.state.live)
    tasks = _Tasks()
    tasks.replace("pictures", _send_pictures(socket, connection))
    try:
        while True:
            try:
                message = _MESSAGES.validate_json(text := await socket.receive_text())
            except ValidationError as error:
                _refuse_unread(connection, text, error)
                continue
            if isinstance(message, Draw):
                await _draw(studio, connection, message)
            elif isinstance(message, Ack):
                connection.acknowledge(message.stream, message.seq)
            elif isinstance(message, Cancel):
                connection.cancel(message.stream)
            else:
                tasks.replace("events", _send_events(socket, studio, message.after or studio.events.last))
    except (WebSocketDisconnect, KeyError):  # KeyError: a binary message, which the page never sends
        return
    finally:
        connection.close()
        tasks.cancel()


async def _draw(studio: Studio, connection: LiveConnection, message: Draw) -> None:
    try:
        wish = await asyncio.to_thread(wish_of, message, studio.roots)  # it looks at the disk
        await connection.draw(message.stream, message.seq, wish)
    except StudioError as error:
        _refuse(connection, failure_of(error), message.stream, message.seq)
    except OSError as error:  # of a disk that does not answer, for instance
        _refuse(connection, failure("disk", error=error.strerror or type(error).__name__), message.stream, message.seq)


def _refuse_unread(connection: LiveConnection, text: str, error: ValidationError) -> None:
    """Say what is wrong with a message: of a wish for a picture under its number, which the page waits for."""
    try:
        asked = _Numbered.model_validate_json(text)
    except ValidationError:
        connection.refuse(_UNREADABLE, "unreadable")
        return
    _refuse(connection, invalid(error), asked.stream, asked.seq)


def _refuse(connection: LiveConnection, reason: Failure, stream: int, seq: int) -> None:
    connection.refuse(Failed.of(reason, stream, seq).model_dump_json(), ("failed", stream))


class _Numbered(BaseModel):
    """What a wish for a picture says in any case."""

    type: Literal["draw"]
    stream: Stream
    seq: Sequence


class _Tasks:
    """A connection's tasks by name, which end with it."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def replace(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Begin a task in the place of the one of this name."""
        if name in self._tasks:
            self._tasks[name].cancel()
        self._tasks[name] = asyncio.create_task(work)

    def cancel(self) -> None:
        """End them all."""
        for task in self._tasks.values():
            task.cancel()


async def _send_pictures(socket: WebSocket, connection: LiveConnection) -> None:
    with contextlib.suppress(WebSocketDisconnect, RuntimeError):  # the page is gone, as its reader sees too
        while True:
            message = await connection.next_message()
            await (socket.send_bytes(message) if isinstance(message, bytes) else socket.send_text(message))


async def _send_events(socket: WebSocket, studio: Studio, last: int) -> None:
    with contextlib.suppress(WebSocketDisconnect, RuntimeError):
        while True:
            for event in await studio.events.wait(last):
                last = event.id
                await socket.send_text(event.model_dump_json())
