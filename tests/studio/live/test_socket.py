"""The websocket: what a page says, and what comes back."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import WebSocketTestSession

from loratools.blocks.presets import load_presets
from loratools.ops.merging.merge_string import parse_merge_string
from loratools.ops.merging.terms import resolve_terms
from loratools.studio.api.stacks import Stack, Term
from loratools.studio.context import Options
from loratools.studio.live.frame import Frame, unpacked
from loratools.studio.live.stack import OpenFiles, term_of
from loratools.studio.live.wishes import terms_of
from loratools.studio.stacks import merge_string
from tests.studio.served import Served, served


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Served]:
    (tmp_path / "style.safetensors").write_bytes(b"any")
    made = served(tmp_path, options=Options(fake_engine=True))
    with made.client:
        yield made.sign_in()


def draw(studio: Served, seq: int, *, stream: int = 2, weight: float = 1.0, quality: str = "drag") -> str:
    lora = studio.studio.roots.id_of(studio.studio.roots.roots[0].path / "style.safetensors")
    stack = {"terms": [{"lora": lora, "weight": weight}], "base": "pocket"}
    settings = {"prompt": "1girl", "size": [48, 32]}
    message = {"type": "draw", "stream": stream, "seq": seq, "stack": stack, "settings": settings, "quality": quality}
    return json.dumps(message)


def next_frame(socket: WebSocketTestSession) -> tuple[Frame, int, int]:
    while True:
        message = socket.receive()
        if message.get("bytes"):
            return unpacked(message["bytes"])


def next_text(socket: WebSocketTestSession, kind: str) -> dict[str, Any]:
    while True:
        message = socket.receive()
        if message.get("text"):
            made: dict[str, Any] = json.loads(message["text"])
            if made["type"] == kind:
                return made


def test_a_wish_comes_back_as_a_binary_frame_of_its_stream(studio: Served) -> None:
    with studio.socket() as socket:
        socket.send_text(draw(studio, 5))
        frame, stream, seq = next_frame(socket)
        assert (stream, seq, frame.width, frame.height, frame.encoding) == (2, 5, 48, 32, "jpeg")
        socket.send_text(json.dumps({"type": "ack", "stream": 2, "seq": 5}))
        socket.send_text(draw(studio, 6, quality="rest"))
        frame, stream, seq = next_frame(socket)
        assert (stream, seq, frame.encoding, frame.preview) == (2, 6, "png", False)


def test_what_is_wrong_with_a_wish_comes_back_under_its_number(studio: Served) -> None:
    with studio.socket() as socket:
        message = json.loads(draw(studio, 7))
        message["stack"]["terms"][0]["lora"] = "unknown"
        socket.send_text(json.dumps(message))
        failed = next_text(socket, "failed")
        assert (failed["stream"], failed["seq"], failed["key"]) == (2, 7, "id.unknown")
        path = studio.studio.roots.roots[0].path / "style.safetensors"
        again = draw(studio, 8)
        path.unlink()
        socket.send_text(again)
        failed = next_text(socket, "failed")
        assert failed["error"] == "style.safetensors is gone from the disk" and failed["remedy"]
        assert failed["values"] == {"name": "style.safetensors"}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"type": "shutdown"}', '{"type": "draw", "stream": -1}', "null"])
def test_a_message_that_cannot_be_read_is_said_and_the_next_one_works(studio: Served, text: str) -> None:
    with studio.socket() as socket:
        socket.send_text(text)
        assert "cannot be read" in next_text(socket, "note")["text"]
        socket.send_text(draw(studio, 1))
        assert next_frame(socket)[2] == 1


@pytest.mark.parametrize(
    ("field", "value", "key"), [("steps", 0, "request.least"), ("cfg", 1000, "request.most"), ("steps", 1.5, "request")]
)
def test_a_wish_that_cannot_be_read_is_answered_under_its_number(
    studio: Served, field: str, value: float, key: str
) -> None:
    """Else the page would wait for it for ever, and ask for nothing more."""
    with studio.socket() as socket:
        message = json.loads(draw(studio, 3))
        message["settings"][field] = value
        socket.send_text(json.dumps(message))
        failed = next_text(socket, "failed")
        assert (failed["stream"], failed["seq"], failed["key"]) == (2, 3, key)
        assert field in failed["values"]["place"]


def test_the_disk_is_looked_at_on_a_thread_and_may_fail(studio: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[str] = []

    def no_disk(self: Path) -> bool:
        threads.append(threading.current_thread().name)
        raise OSError(5, "Input/output error")

    with studio.socket() as socket:
        text = draw(studio, 4)
        monkeypatch.setattr(Path, "exists", no_disk)
        socket.send_text(text)
        failed = next_text(socket, "failed")
        assert (failed["seq"], failed["key"], failed["values"]) == (4, "disk", {"error": "Input/output error"})
        monkeypatch.undo()
        socket.send_text(draw(studio, 5))
        assert next_frame(socket)[2] == 5
    assert all(own.startswith("asyncio_") for own in threads) and threads  # of the executor, not the loop's


def test_a_page_that_leaves_in_the_middle_of_a_drag_leaves_nothing_behind(studio: Served) -> None:
    engine = studio.client.app.app.state.live  # type: ignore[attr-defined]
    for round_ in range(5):
        with studio.socket() as socket:
            for seq in range(1, 20):
                socket.send_text(draw(studio, seq, weight=seq / 10 + round_))
            next_frame(socket)
    with studio.socket() as socket:
        socket.send_text(draw(studio, 99, weight=9))
        assert next_frame(socket)[2] == 99
        assert len(engine._pages) == 1
    assert not engine._schedule.waiting()


def test_two_tabs_have_streams_of_their_own(studio: Served) -> None:
    with studio.socket() as one, studio.socket() as other:
        for seq in range(1, 5):
            one.send_text(draw(studio, seq, weight=seq))
            other.send_text(draw(studio, 10 * seq, weight=-seq))
            (first, _, mine), (second, _, theirs) = next_frame(one), next_frame(other)
            assert (mine, theirs) == (seq, 10 * seq) and first.data != second.data
            one.send_text(json.dumps({"type": "ack", "stream": 2, "seq": seq}))
            other.send_text(json.dumps({"type": "ack", "stream": 2, "seq": 10 * seq}))


def test_events_come_over_the_same_socket_from_the_one_that_was_seen_last(studio: Served) -> None:
    events = studio.studio.events
    start = events.last
    events.add("file", {"ids": ["a"]})
    events.add("file", {"ids": ["b"]})
    with studio.socket() as socket:
        socket.send_text(json.dumps({"type": "watch", "after": start}))
        assert [next_text(socket, "event")["data"]["ids"] for _ in range(2)] == [["a"], ["b"]]
        socket.send_text(draw(studio, 3))
        assert next_frame(socket)[2] == 3
        events.add("file", {"ids": ["c"]})
        assert next_text(socket, "event")["id"] == events.last


def test_a_page_s_stack_is_drawn_as_the_merge_that_it_is_written_by(
    studio: Served, loras: tuple[Path, Path], tmp_path: Path
) -> None:
    roots = studio.studio.roots
    ids = []
    for path in loras:
        (tmp_path / path.name).write_bytes(path.read_bytes())
        ids.append(roots.id_of(tmp_path / path.name))
    stack = Stack(
        terms=[
            Term(lora=ids[0], weight=0.75, vector={"OUT05": 0.5, "IN01": 0.0}, te=0.5),
            Term(lora=ids[1], weight=-0.25, vector="GP1", unet=1.25),
            Term(lora=ids[1], vector={"BASE": 0.0}),
            Term(lora=ids[1], weight=0.5, vector={}),
        ],
        base="pocket",
    )
    written = resolve_terms(parse_merge_string(merge_string(stack, roots)), Path, presets=load_presets(), missing=1.0)
    files = OpenFiles()
    drawn = [term_of(files.adapter(own.lora), own) for own in terms_of(stack, roots)]
    for one, other in zip(drawn, written, strict=True):
        assert [one.strength(name) for name in one.adapter] == [other.strength(name) for name in other.adapter]
