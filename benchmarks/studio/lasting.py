"""Eight hours of a day in forty minutes: drags, jobs, lost connections, a server that is killed; is anything lost?

The server is a process of its own with the made-up engine, so that only what the server does is measured. It is killed
with SIGKILL in the first half; in the second half it lives on, and its memory is read.
"""

from __future__ import annotations

import asyncio
import json
import random
import resource
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2 as httpx
import torch
from websockets.asyncio.client import ClientConnection, connect

from benchmarks.checkout import ROOT, own_environment
from benchmarks.previews.bench import Figure, Figures
from loratools.blocks.scheme import SD1_17
from loratools.studio.live.frame import unpacked

_BURST = 50  # drags of one hand, after which it rests
_MOST_GROWTH = 0.10  # of the memory after a tenth of the second half
_PATIENCE = 900  # seconds for the last jobs


@dataclass(frozen=True)
class Load:
    """What is done in ``seconds``; ``jobs`` are merges, and a connection is dropped after ``each`` bursts."""

    seconds: float
    drags: int
    jobs: int
    kills: int
    each: int = 4


FULL_LOAD = Load(2400, 20_000, 200, 20)
SHORT_LOAD = Load(70, 1_000, 6, 2)


@dataclass
class Count:
    """What happened."""

    drags: int = 0
    frames: int = 0
    rests: int = 0
    lost_rests: int = 0
    backwards: int = 0
    connections: int = 0
    kills: int = 0
    events: int = 0
    resets: int = 0
    repeated: int = 0
    added: list[str] = field(default_factory=list)
    memory: list[tuple[float, float]] = field(default_factory=list)  # seconds, MB, of the second half


def lasts(work: Path, device: torch.device, *, tiny: bool) -> Figures:
    """A day's 20,000 drags, 200 jobs and lost connections in 40 minutes, with 20 kills of the server in the first half:
    nothing is lost, and memory grows by at most a tenth. With --tiny 1,000 drags, 6 jobs and 2 kills in two minutes."""
    load = SHORT_LOAD if tiny else FULL_LOAD
    count = asyncio.run(_Day(work, load).run())
    done, lost = outcome(work, count)
    first, last = growth(count)
    yield Figure("drags", count.drags, "", note=f"{count.frames} pictures came, {count.connections} connections")
    yield _none("hands that rested without their last picture", count.lost_rests, f"of {count.rests}")
    yield _none("pictures that were older than one before", count.backwards)
    yield _none("jobs lost", lost, f"{done} of {len(count.added)} done, {count.kills} kills of the server")
    yield _none("events that came twice", count.repeated, f"of {count.events}, {count.resets} resets")
    grown = last / first - 1 if first else 0.0
    note = f"{first:.0f} to {last:.0f} MB"
    yield Figure("server's memory in the second half: growth", 100 * grown, "%", "<= 10", grown <= _MOST_GROWTH, note)


def _none(name: str, count: int, note: str = "") -> Figure:
    return Figure(name, count, "", "0", count == 0, note)


def growth(count: Count) -> tuple[float, float]:
    """MB of the server after a tenth of the second half, and over its last tenth."""
    tenth = max(1, len(count.memory) // 10)
    values = [value for _, value in count.memory]
    return sum(values[tenth : 2 * tenth]) / max(1, len(values[tenth : 2 * tenth])), sum(values[-tenth:]) / tenth


def outcome(work: Path, count: Count) -> tuple[int, int]:
    """Jobs that are done with their files there, and those that are not, by the queue's own table."""
    from loratools.studio.jobs.store import JobStore

    store = JobStore(work / ".loratools-studio/jobs/queue.sqlite")
    records = {record.id: record for record in store.all()}
    store.close()
    done = [own for own in count.added if own in records and records[own].state == "done"]
    there = [own for own in done if all(Path(path).exists() for path in records[own].results)]
    return len(there), len(count.added) - len(there)


class _Server:
    """The process, started again after each kill."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process: subprocess.Popen[str] | None = None
        self.address, self.client = "", httpx.AsyncClient()

    async def start(self) -> None:
        """Start it and sign in."""
        self.process = await asyncio.to_thread(self._spawn)
        line = await asyncio.to_thread(self._line)
        self.address, _, token = line.partition("/#")
        await self.client.aclose()
        self.client = httpx.AsyncClient(base_url=self.address, headers={"origin": self.address}, timeout=60)
        (await self.client.post("/api/session", json={"token": token})).raise_for_status()

    def kill(self) -> None:
        """As a machine that ran out of memory would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def megabytes(self) -> float:
        """What the process holds."""
        if self.process is None:
            return 0.0
        pages = Path(f"/proc/{self.process.pid}/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * resource.getpagesize() / 1e6

    @asynccontextmanager
    async def socket(self) -> AsyncIterator[ClientConnection]:
        """A page's connection."""
        cookie = "; ".join(f"{name}={value}" for name, value in self.client.cookies.items())
        url = f"ws{self.address.removeprefix('http')}/api/live"
        headers = {"Cookie": cookie}
        async with connect(url, origin=self.address, additional_headers=headers, compression=None) as socket:  # type: ignore[arg-type]
            yield socket

    def _spawn(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "loratools", "studio", str(self.folder), "--no-browser", "--fake-engine"]
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=own_environment(), cwd=ROOT
        )

    def _line(self) -> str:
        if self.process is None or self.process.stdout is None:
            raise RuntimeError("the server is not running")
        return self.process.stdout.readline().strip()


class _Day:
    """One client that drags, adds jobs, and loses its connection and its server."""

    def __init__(self, work: Path, load: Load) -> None:
        self._load, self._count, self._rng = load, Count(), random.Random(1)
        self._server = _Server(work)
        self._work, self._seq, self._last_event = work, 0, 0
        self._loras: list[str] = []

    async def run(self) -> Count:
        """All of it; the server is ended at the end."""
        load, count = self._load, self._count
        _make_loras(self._work)
        begun = time.monotonic()
        bursts = max(1, load.drags // _BURST)
        kills = sorted(self._rng.sample(range(1, max(bursts // 2, load.kills + 1)), load.kills))
        await self._begin()
        try:
            for burst in range(bursts):
                if burst in kills:
                    self._server.kill()
                    count.kills += 1
                    await self._begin()
                due = load.jobs * (burst + 1) // bursts
                while len(count.added) < due:
                    await self._add_job()
                await self._drag()
                if burst >= bursts // 2:
                    count.memory.append((time.monotonic() - begun, self._server.megabytes()))
                await asyncio.sleep(max(0.0, begun + load.seconds * (burst + 1) / bursts - time.monotonic()))
            await self._jobs_end()
        finally:
            self._server.kill()
        return count

    async def _begin(self) -> None:
        await self._server.start()
        answer = await self._server.client.get("/api/loras")
        listed = sorted((own["name"], own["id"]) for own in answer.json())
        self._loras = [made for name, made in listed if name in ("a", "b")]

    def _stack(self) -> dict[str, Any]:
        """Two LoRAs, with weights that a hand could have chosen."""
        terms = [
            {"lora": own, "weight": sign, "vector": {name: round(self._rng.uniform(-1, 2), 2) for name in SD1_17.names}}
            for own, sign in zip(self._loras, (1.0, -1.0), strict=True)
        ]
        return {"terms": terms, "base": "pocket"}

    async def _add_job(self) -> None:
        roots = (await self._server.client.get("/api/state")).json()["roots"]
        target = {"root": roots[0]["id"], "name": f"out-{len(self._count.added)}"}
        answer = await self._server.client.post("/api/write", json={"stack": self._stack(), "to": target})
        answer.raise_for_status()
        self._count.added.append(answer.json()["job"])

    async def _drag(self) -> None:
        """A hand that moves, and rests: the last picture that comes has to be that of where it rests."""
        count = self._count
        count.connections += 1
        count.rests += 1
        async with self._server.socket() as socket:
            await socket.send(json.dumps({"type": "watch", "after": self._last_event}))
            reader = asyncio.create_task(self._read(socket, self._seq + _BURST))
            for place in range(_BURST):
                self._seq += 1
                quality = "rest" if place == _BURST - 1 else "drag"
                wish = {"stack": self._stack(), "settings": {"prompt": "1girl", "seed": 1}, "quality": quality}
                await socket.send(json.dumps({"type": "draw", "stream": 2, "seq": self._seq, **wish}))
                count.drags += 1
                await asyncio.sleep(1 / 120)
            try:
                await asyncio.wait_for(reader, 20)
            except TimeoutError:
                count.lost_rests += 1

    async def _read(self, socket: ClientConnection, rest: int) -> None:
        """Take pictures and events until the picture ``rest``, of where the hand rests; each is acknowledged."""
        shown = 0
        async for message in socket:
            if isinstance(message, bytes):
                _, stream, seq = unpacked(message)
                self._count.frames += 1
                self._count.backwards += seq < shown
                shown = max(shown, seq)
                await socket.send(json.dumps({"type": "ack", "stream": stream, "seq": seq}))
            else:
                self._take(json.loads(message))
            if shown == rest:
                return

    def _take(self, content: dict[str, Any]) -> None:
        if content["type"] != "event":
            return
        self._count.events += 1
        self._count.resets += content["event"] == "reset"
        self._count.repeated += content["event"] != "reset" and content["id"] <= self._last_event
        self._last_event = max(self._last_event, content["id"])

    async def _jobs_end(self) -> None:
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end:
            jobs = (await self._server.client.get("/api/jobs")).json()
            if all(own["state"] not in ("waiting", "running", "stopping") for own in jobs):
                return
            await asyncio.sleep(0.5)


def _make_loras(folder: Path) -> None:
    from tests.loras import lora_tensors, save

    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate("ab"):
        save(folder / f"{name}.safetensors", lora_tensors(rank=2, seed=seed))
