"""The websocket ``/api/live``: JSON as text, pictures as binary frames.

A connection is two tasks: one reads the page's messages, one sends events from where the page's last watch left off.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from pydantic import TypeAdapter, ValidationError
from starlette.websockets import WebSocket, WebSocketDisconnect

from loratools.studio.api.messages import ClientMessage, Note, Watch
from loratools.studio.context import Studio

_MESSAGES: TypeAdapter[ClientMessage] = TypeAdapter(ClientMessage)


@contextlib.asynccontextmanager
async def live_service(studio: Studio) -> AsyncIterator[None]:
    """What runs as long as the server does: the renderer, from its first picture on."""
    yield


async def live_endpoint(socket: WebSocket) -> None:
    """One page's connection, until it leaves."""
    studio: Studio = socket.app.state.studio
    await socket.accept()
    watching: asyncio.Task[None] | None = None
    try:
        while True:
            text = await socket.receive_text()
            try:
                message = _MESSAGES.validate_json(text)
            except ValidationError:
                await socket.send_text(Note(text="a message that cannot be read was ignored").model_dump_json())
                continue
            if isinstance(message, Watch):
                if watching is not None:
                    watching.cancel()
                watching = asyncio.create_task(_send_events(socket, studio, message.after or studio.events.last))
    except (WebSocketDisconnect, KeyError):  # KeyError: a binary message, which the page never sends
        return
    finally:
        if watching is not None:
            watching.cancel()


async def _send_events(socket: WebSocket, studio: Studio, last: int) -> None:
    while True:
        for event in await studio.events.wait(last):
            last = event.id
            await socket.send_text(event.model_dump_json())
