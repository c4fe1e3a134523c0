"""On a GPU that is too small for both, live pictures give way to a heavy job of the queue, and come back after it."""

from __future__ import annotations

import asyncio

from loratools.studio.api.words import failure
from loratools.studio.context import Studio
from loratools.studio.device import device
from loratools.studio.jobs.record import ACTIVE, JobRecord
from loratools.studio.live.engine import Engine

ROOM = 20 << 30  # bytes of a GPU that has room for a training beside a loaded base


async def give_way(studio: Studio, engine: Engine, room: int = ROOM) -> None:
    """Pause ``engine`` while a heavy job runs, as long as this is awaited; returns at once where there is room."""
    own = await asyncio.to_thread(device, studio.options.device)
    if own.kind != "cuda" or own.memory is None or own.memory >= room:
        return
    last, paused = studio.events.last, False
    while True:
        job = await asyncio.to_thread(_heavy_job, studio)
        if job is not None and not paused:
            engine.pause(failure("live.busy", job=job.title))
        elif job is None and paused:
            engine.resume()
        paused, last = job is not None, await _next_change(studio, last)


async def _next_change(studio: Studio, last: int) -> int:
    """Wait until a job changes; the id of the newest event then."""
    while True:
        events = await studio.events.wait(last)
        last = events[-1].id
        if any(event.event in ("job", "reset") for event in events):
            return last


def _heavy_job(studio: Studio) -> JobRecord | None:
    """The heavy job that runs."""
    return next((job for job in studio.queue.jobs() if job.heavy and job.state in ACTIVE), None)
