"""A page's connection: one frame of a stream unacknowledged, the newest next, and a bounded number of words."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from loratools.studio.api.messages import Drawing, Note
from loratools.studio.live.connection import LiveConnection
from loratools.studio.live.fake import FakeEngine
from loratools.studio.live.frame import Frame, unpacked
from loratools.studio.live.wish import PictureWish, SamplingWish, TermWish


def wish(weight: float) -> PictureWish:
    return PictureWish((TermWish(Path("a"), weight),), "pocket", SamplingWish(size=(16, 16)), "drag")


def run(test: Callable[[LiveConnection], Awaitable[None]], seconds: float = 0.0) -> None:
    async def main() -> None:
        engine = FakeEngine(seconds)
        connection = LiveConnection(engine)
        try:
            async with asyncio.timeout(30):
                await test(connection)
        finally:
            connection.close()
            await asyncio.to_thread(engine.close)

    asyncio.run(main())


async def next_frame(connection: LiveConnection) -> tuple[int, int]:
    while not isinstance(message := await connection.next_message(), bytes):
        pass
    _, stream, seq = unpacked(message)
    return stream, seq


def test_the_next_frame_waits_for_the_acknowledgement_and_is_the_newest() -> None:
    async def test(connection: LiveConnection) -> None:
        for seq in range(1, 6):
            await connection.draw(2, seq, wish(seq))
            await asyncio.sleep(0.05)
        assert await next_frame(connection) == (2, 1)
        await asyncio.sleep(0.05)
        assert not any(isinstance(own, bytes) for own in connection._outbox.values())  # one is unacknowledged
        await connection.draw(3, 6, wish(6))
        assert await next_frame(connection) == (3, 6)  # another stream does not wait for it
        connection.acknowledge(2, 1)
        second = await next_frame(connection)
        assert second == (2, 2)  # nothing more was drawn meanwhile: the page had not caught up
        connection.acknowledge(2, 2)
        assert await next_frame(connection) == (2, 5)

    run(test)


def test_a_frame_that_waits_is_replaced_by_a_newer_one() -> None:
    async def test(connection: LiveConnection) -> None:
        await connection.draw(2, 1, wish(1))
        assert await next_frame(connection) == (2, 1)
        for seq in (2, 3, 4):
            await connection.draw(2, seq, wish(1))  # drawn before: each is answered at once
        await asyncio.sleep(0.05)
        connection.acknowledge(2, 0)  # of an older frame: it counts for nothing
        assert not connection._outbox
        connection.acknowledge(2, 1)
        assert await next_frame(connection) == (2, 4) and connection.dropped == 2

    run(test)


def test_a_reader_who_reads_nothing_leaves_a_bounded_number_of_messages() -> None:
    async def test(connection: LiveConnection) -> None:
        for number in range(1000):
            connection._arrived(2, number, Drawing(stream=2, seq=number, step=1, steps=2))
            connection._arrived(0, 0, Note(text=f"note {number % 50}"))
            connection._arrived(2, number, Frame("jpeg", 1, 1, b""))
        assert len(connection._outbox) < 30 and connection.dropped == 998
        texts = [await connection.next_message() for _ in range(len(connection._outbox))]
        assert sum(isinstance(text, bytes) for text in texts) == 1
        steps = [json.loads(text)["seq"] for text in texts if isinstance(text, str) and "drawing" in text]
        assert steps in ([], [999])

    run(test)


def test_cancelling_drops_the_frame_that_waits() -> None:
    async def test(connection: LiveConnection) -> None:
        await connection.draw(2, 1, wish(1))
        assert await next_frame(connection) == (2, 1)
        await connection.draw(2, 2, wish(1))
        await asyncio.sleep(0.05)
        connection.cancel(2)
        connection.acknowledge(2, 1)
        await asyncio.sleep(0.05)
        assert not connection._outbox
        await connection.draw(2, 3, wish(3))
        assert await next_frame(connection) == (2, 3)

    run(test)


@pytest.mark.parametrize("seconds", [0.0, 0.02])
def test_a_hand_that_never_rests_sees_pictures_all_the_time(seconds: float) -> None:
    async def test(connection: LiveConnection) -> None:
        shown: list[int] = []

        async def page() -> None:
            while not shown or shown[-1] != 100:
                stream, seq = await next_frame(connection)
                shown.append(seq)
                connection.acknowledge(stream, seq)

        reading = asyncio.create_task(page())
        for seq in range(1, 101):
            await connection.draw(2, seq, wish(seq))
            await asyncio.sleep(0.004)
        await reading
        assert shown == sorted(set(shown)) and len(shown) >= 8

    run(test, seconds)
