"""The renderer's process: it draws, stops between two steps, and is started again when it dies."""

from __future__ import annotations

import io
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from loratools.studio.api.messages import Drawing, Failed, Note
from loratools.studio.api.words import Failure
from loratools.studio.live.frame import Frame
from loratools.studio.live.painter import Painter
from loratools.studio.live.painter_options import PainterOptions
from loratools.studio.live.renderer import Renderer
from loratools.studio.live.wish import PictureWish, SamplingWish, TermWish
from tests.studio.live.conftest import Wishes
from tests.studio.live.test_engine import Reader

LONG = 200  # steps, which take longer than it takes to do something about them
START = 120.0  # seconds for a process to start on a busy machine


@pytest.fixture
def renderer() -> Iterator[Renderer]:
    made = Renderer(PainterOptions("cpu", threads=torch.get_num_threads()))  # the bits are those of as many threads
    yield made
    made.close()


def kill(renderer: Renderer) -> int:
    process = renderer.process_id
    assert process is not None
    os.kill(process, signal.SIGTERM if sys.platform == "win32" else signal.SIGKILL)
    return process


def wait_for_a_step(reader: Reader, stream: int, seq: int) -> None:
    reader.wait(stream, seq, Drawing, START)


@pytest.mark.slow
def test_it_draws_what_a_painter_draws_and_lives_on_from_picture_to_picture(renderer: Renderer, wishes: Wishes) -> None:
    assert renderer.process_id is None  # until the first wish
    reader = Reader()
    page = renderer.connect(reader)
    page.draw(2, 1, wishes("rest", {"MID": 0.5}))
    frame = reader.wait(2, 1, Frame, START)
    process = renderer.process_id
    page.draw(2, 2, wishes("drag", {"MID": 0.6}))
    reader.wait(2, 2)
    assert renderer.process_id == process
    painter = Painter(PainterOptions("cpu"), print)
    expected = painter.draw(wishes("rest", {"MID": 0.5}), lambda done, steps: None)
    painter.close()
    assert isinstance(frame, Frame)
    with Image.open(io.BytesIO(frame.data)) as one, Image.open(io.BytesIO(expected.data)) as other:
        assert np.array_equal(np.asarray(one), np.asarray(other))
    broken = PictureWish((TermWish(Path("gone")),), wishes.base, SamplingWish(), "drag")
    page.draw(2, 3, broken)
    failed = reader.wait(2, 3, Failed)
    assert isinstance(failed, Failed) and failed.error == "gone is gone from the disk" and failed.remedy
    page.draw(2, 4, wishes("rest", {"MID": 0.5}))
    assert reader.answers[-1][:2] == (2, 4)  # it was kept
    # a whole picture gives way to a quick one between two steps, and comes afterwards
    page.draw(0, 5, wishes("rest", steps=LONG, seed=8))
    wait_for_a_step(reader, 0, 5)
    page.draw(2, 6, wishes("drag", {"MID": 0.9}))
    reader.wait(2, 6)
    assert not reader.frames(0)
    page.cancel(0)
    page.draw(2, 7, wishes("drag", {"MID": 0.95}))
    reader.wait(2, 7)
    assert not reader.frames(0) and renderer.process_id == process


@pytest.mark.slow
def test_a_process_that_dies_is_started_again_and_draws_the_same_wish(renderer: Renderer, wishes: Wishes) -> None:
    reader = Reader()
    page = renderer.connect(reader)
    page.draw(0, 1, wishes("rest", steps=LONG))
    wait_for_a_step(reader, 0, 1)
    page.draw(1, 2, wishes("rest", steps=2))
    dead = kill(renderer)
    reader.wait(0, 1, Frame, START)
    reader.wait(1, 2)
    assert renderer.process_id not in (None, dead)
    notes = [own.text for *_, own in reader.answers if isinstance(own, Note)]
    assert notes[0] == notes[2] == "loading the base model tiny"  # once in each process
    assert notes[1:2] == ["the drawing process ended (it was killed, perhaps for lack of memory) and is started again"]


@pytest.mark.slow
def test_a_wish_with_which_two_processes_died_fails_and_the_next_is_drawn(renderer: Renderer, wishes: Wishes) -> None:
    reader = Reader()
    page = renderer.connect(reader)
    page.draw(0, 1, wishes("rest", steps=LONG))
    wait_for_a_step(reader, 0, 1)
    first = kill(renderer)
    end = time.monotonic() + START
    while renderer.process_id in (None, first) and time.monotonic() < end:
        time.sleep(0.05)
    kill(renderer)
    failed = reader.wait(0, 1, Failed, START)
    assert isinstance(failed, Failed) and failed.error.startswith("the drawing process ended twice")
    assert failed.remedy is not None and "smaller size" in failed.remedy
    page.draw(0, 2, wishes("rest", steps=2))
    reader.wait(0, 2, Frame, START)


@pytest.mark.slow
def test_pausing_ends_the_process_and_frees_what_it_held(renderer: Renderer, wishes: Wishes) -> None:
    reader = Reader()
    page = renderer.connect(reader)
    page.draw(0, 1, wishes("rest", steps=LONG))
    wait_for_a_step(reader, 0, 1)
    renderer.pause(Failure(error="the GPU trains ink", remedy="stop it in the queue"))
    reader.wait(0, 1, Failed)
    assert renderer.process_id is None
    renderer.resume()
    page.draw(0, 2, wishes("rest", steps=2))
    reader.wait(0, 2, Frame, START)
    assert reader.frames(0) == [2]


@pytest.mark.slow
def test_the_process_ends_when_its_server_is_killed(tmp_path: Path, wishes: Wishes) -> None:
    import subprocess

    script = tmp_path / "server.py"
    script.write_text(
        "import sys, time\n"
        "from loratools.studio.live.renderer import Renderer\n"
        "from loratools.studio.live.painter_options import PainterOptions\n"
        "from loratools.studio.live.wish import PictureWish, SamplingWish\n"
        "if __name__ == '__main__':\n"
        "    renderer = Renderer(PainterOptions('cpu'))\n"
        "    page = renderer.connect(lambda stream, seq, answer: None)\n"
        f"    page.draw(0, 1, PictureWish((), {wishes.base!r}, SamplingWish(steps={LONG}), 'rest'))\n"
        "    print(renderer.process_id, 'torch' in sys.modules, flush=True)\n"
        "    time.sleep(600)\n",
        encoding="utf-8",
    )
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        process, heavy = server.stdout.readline().split()
        assert heavy == "False"  # the server's own process stays light
        server.kill()
    end = time.monotonic() + START
    while alive(int(process)) and time.monotonic() < end:
        time.sleep(0.1)
    assert not alive(int(process))


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except OSError:
        return False
    stat = Path(f"/proc/{process}/stat")
    return not stat.is_file() or stat.read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0] != "Z"


def test_a_process_that_cannot_be_started_is_said_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    class NotStarted:
        def __init__(self, **_: object) -> None: ...

        def start(self) -> None:
            raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(multiprocessing.get_context("spawn"), "Process", NotStarted, raising=False)
    made, reader = Renderer(PainterOptions("cpu")), Reader()
    page = made.connect(reader)
    for seq in (1, 2):  # the first one must not stand in the second one's way
        page.draw(1, seq, PictureWish((), "pocket", SamplingWish(), "drag"))
        failed = reader.wait(1, seq, Failed, 5)
        assert isinstance(failed, Failed) and "Cannot allocate memory" in failed.error
    made.close()
