"""Live pictures give way to a heavy job on a GPU without room for both."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from loratools.studio.api.messages import Failed, Note
from loratools.studio.api.models import Device
from loratools.studio.events import Events
from loratools.studio.live import give_way as module
from loratools.studio.live.fake import FakeEngine
from loratools.studio.live.frame import Frame
from loratools.studio.live.give_way import ROOM, give_way
from tests.studio.live.test_engine import Reader, wish


def studio_of(jobs: list[Any]) -> Any:
    queue = SimpleNamespace(jobs=lambda: list(jobs))
    return SimpleNamespace(options=SimpleNamespace(device="auto"), events=Events(), queue=queue)


def job(state: str, *, heavy: bool = True) -> Any:
    return SimpleNamespace(title="ink", heavy=heavy, state=state)


def on_device(monkeypatch: pytest.MonkeyPatch, kind: str, memory: int | None) -> None:
    own = Device(kind=kind, name="a device", memory=memory)  # type: ignore[arg-type]
    monkeypatch.setattr(module, "device", lambda asked: own)


def test_while_a_heavy_job_runs_pictures_say_why_they_do_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    on_device(monkeypatch, "cuda", 8 << 30)
    jobs: list[Any] = [job("waiting"), job("running", heavy=False)]
    studio, engine, reader = studio_of(jobs), FakeEngine(), Reader()

    async def changed(to: Any) -> None:
        jobs[0] = to
        studio.events.add("log", {})
        studio.events.add("job", {})
        for _ in range(200):
            if (engine._paused is not None) == (to.state in ("running", "stopping")):
                return
            await asyncio.sleep(0.01)
        raise AssertionError(to.state)

    async def main() -> None:
        page, task = engine.connect(reader), asyncio.create_task(give_way(studio, engine))
        await asyncio.sleep(0.05)
        assert engine._paused is None
        for seq, state in enumerate(("running", "stopping", "done", "running"), start=1):
            await changed(job(state))
            page.draw(2, seq, wish(seq / 10))
            await asyncio.to_thread(reader.wait, 2, seq, Failed if engine._paused else Frame)
        task.cancel()

    asyncio.run(main())
    engine.close()
    failed = [own for *_, own in reader.answers if isinstance(own, Failed)]
    assert [own.seq for own in failed] == [1, 2, 4] and "'ink' has the GPU" in failed[0].error
    assert [own.text for *_, own in reader.answers if isinstance(own, Note)] == ["pictures are drawn again"]
    assert reader.frames(2) == [3]


@pytest.mark.parametrize(("kind", "memory"), [("cpu", 8 << 30), ("cuda", ROOM), ("cuda", None), ("mps", 8 << 30)])
def test_where_there_is_room_nothing_gives_way(
    monkeypatch: pytest.MonkeyPatch, kind: str, memory: int | None, tmp_path: Path
) -> None:
    on_device(monkeypatch, kind, memory)
    engine = FakeEngine()
    asyncio.run(asyncio.wait_for(give_way(studio_of([job("running")]), engine), 10))
    assert engine._paused is None
    engine.close()
