"""The engine, by the one that makes its pictures up: what pages ask for, and what they are answered."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from loratools.studio.api.messages import Drawing, Failed
from loratools.studio.api.words import Failure
from loratools.studio.live.engine import Answer
from loratools.studio.live.fake import FakeEngine, colours
from loratools.studio.live.frame import HEADER, Frame, unpacked
from loratools.studio.live.kept_frames import KeptFrames
from loratools.studio.live.wish import PictureWish, Quality, SamplingWish, TermWish


def wish(weight: float, quality: Quality = "drag", prompt: str = "1girl") -> PictureWish:
    term = TermWish(Path("style.safetensors"), weight, {"IN01": 0.5, "OUT11": -1.0})
    return PictureWish((term,), "pocket", SamplingWish(prompt, size=(32, 48)), quality)


class Reader:
    """Notes what an engine answers."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, int, Answer]] = []
        self._more = threading.Condition()

    def __call__(self, stream: int, seq: int, answer: Answer) -> None:
        with self._more:
            self.answers.append((stream, seq, answer))
            self._more.notify_all()

    def frames(self, stream: int) -> list[int]:
        """The numbers of a stream's frames, in the order that they came in."""
        return [seq for own, seq, answer in self.answers if own == stream and isinstance(answer, Frame)]

    def wait(self, stream: int, seq: int, kind: type = Frame, seconds: float = 20.0) -> Answer:
        """The first such answer, once it is there."""

        def there() -> list[Answer]:
            return [own for *place, own in self.answers if place == [stream, seq] and isinstance(own, kind)]

        with self._more:
            assert self._more.wait_for(there, seconds), self.answers
            return there()[0]


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    made = FakeEngine()
    yield made
    made.close()


def test_a_frame_travels_with_a_header_of_16_bytes_little_endian() -> None:
    frame = Frame("png", 640, 480, b"data", preview=True, cached=True)
    message = frame.packed(3, 70_000)
    assert HEADER.size == 16 and message[:16].hex() == "02030300701101008002e00104000000"
    assert unpacked(message) == (frame, 3, 70_000)
    for broken in (message[:10], message[:-1], b"\x09" + message[1:]):
        with pytest.raises(ValueError, match=r"frame"):
            unpacked(broken)


def test_kept_frames_are_bounded_in_bytes_and_the_unused_go_first() -> None:
    kept = KeptFrames(most=100)
    for name in "abc":
        kept.put(name, Frame("jpeg", 1, 1, bytes(40)))
        assert kept.get("a") is not None
    assert kept.get("b") is None and kept.get("c") is not None
    kept.put("a", Frame("jpeg", 1, 1, bytes(90)))
    kept.put("d", Frame("jpeg", 1, 1, bytes(101)))
    assert kept.get("c") is None and kept.get("d") is None
    again = kept.get("a")
    assert again is not None and again.cached and len(again.data) == 90


def test_kept_frames_are_bounded_in_number_too() -> None:
    kept = KeptFrames(many=3)
    for name in "abcd":
        kept.put(name, Frame("jpeg", 1, 1, bytes(1)))
    assert kept.get("a") is None and all(kept.get(name) for name in "bcd")


def test_every_stream_ends_with_its_last_wish_and_frames_come_in_order(engine: FakeEngine) -> None:
    reader = Reader()
    page = engine.connect(reader)
    for seq in range(1, 200):
        page.draw(2 + seq % 2, seq, wish(seq / 100))
        time.sleep(0.0005)
    reader.wait(2, 198)
    reader.wait(3, 199)
    for stream in (2, 3):
        assert reader.frames(stream) == sorted(reader.frames(stream)) and len(reader.frames(stream)) < 99


def test_the_picture_is_a_function_of_the_wish(engine: FakeEngine) -> None:
    reader = Reader()
    page = engine.connect(reader)
    for seq, quality in enumerate(("drag", "rest"), start=1):
        own = wish(1.0, "drag" if quality == "drag" else "rest")
        page.draw(2, seq, own)
        frame = reader.wait(2, seq)
        assert isinstance(frame, Frame) and (frame.width, frame.height) == (48, 32)
        assert frame.preview == (quality == "drag") and frame.encoding == ("jpeg" if frame.preview else "png")
        with Image.open(io.BytesIO(frame.data)) as image:
            top, bottom = image.getpixel((24, 4)), image.getpixel((24, 28))
        for seen, meant in zip((top, bottom), colours(own), strict=True):
            assert isinstance(seen, tuple) and max(abs(a - b) for a, b in zip(seen, meant, strict=True)) <= 3
    assert colours(wish(1.0))[0] == (192, 160, 64)


def test_dragging_back_is_answered_at_once_and_ends_what_is_drawn(engine: FakeEngine) -> None:
    reader = Reader()
    page = engine.connect(reader)
    page.draw(2, 1, wish(0.1))
    reader.wait(2, 1)
    page.draw(2, 2, wish(0.2, "rest"))
    page.draw(2, 3, wish(0.1))
    assert reader.answers[-1][:2] == (2, 3)  # before draw() returned
    frame = reader.wait(2, 3)
    assert isinstance(frame, Frame) and frame.cached
    page.draw(2, 4, wish(0.4))
    reader.wait(2, 4)
    assert reader.frames(2) == [1, 3, 4]


def test_streams_that_want_the_same_picture_have_it_drawn_once(engine: FakeEngine) -> None:
    reader = Reader()
    page = engine.connect(reader)
    for stream in range(5):
        page.draw(stream, 1, wish(0.7, "rest"))
    frames = [reader.wait(stream, 1) for stream in range(5)]
    assert [isinstance(own, Frame) and own.cached for own in frames].count(False) == 1


def test_progress_is_told_at_most_ten_times_a_second(engine: FakeEngine) -> None:
    reader, start = Reader(), time.monotonic()
    page = engine.connect(reader)
    for seq in range(1, 31):
        page.draw(0, seq, wish(seq / 10, "rest"))
        reader.wait(0, seq)
    told = [own for *_, own in reader.answers if isinstance(own, Drawing)]
    assert 1 <= len(told) <= 1 + 10 * (time.monotonic() - start)
    assert all(1 <= own.step <= own.steps == 20 for own in told)


def test_a_wish_that_fails_says_why_and_others_go_on(engine: FakeEngine) -> None:
    reader = Reader()
    page = engine.connect(reader)
    page.draw(0, 1, wish(1.0, prompt="fail please"))
    failed = reader.wait(0, 1, Failed)
    assert isinstance(failed, Failed) and (failed.seq, failed.key) == (1, "quoted")
    assert failed.error == "this prompt is one that fails; use another"
    page.draw(0, 2, wish(1.0))
    reader.wait(0, 2)


def test_pages_do_not_see_each_other_and_one_that_left_is_drawn_nothing(engine: FakeEngine) -> None:
    one, other = Reader(), Reader()
    first, second = engine.connect(one), engine.connect(other)
    first.draw(2, 1, wish(0.1, "rest"))
    first.close()
    second.draw(2, 7, wish(0.3))
    other.wait(2, 7)
    assert not one.frames(2) and other.frames(2) == [7]
    first.draw(2, 2, wish(0.5))  # on its way when the page left
    second.draw(2, 8, wish(0.6))
    other.wait(2, 8)
    assert not one.frames(2)


def test_a_cancelled_stream_gets_nothing_more(engine: FakeEngine) -> None:
    reader = Reader()
    page = engine.connect(reader)
    page.draw(2, 1, wish(0.1, "rest"))
    page.cancel(2)
    page.draw(3, 2, wish(0.2))
    reader.wait(3, 2)
    assert not reader.frames(2)


def test_while_paused_every_wish_fails_with_the_reason(engine: FakeEngine) -> None:
    reader = Reader()
    page = engine.connect(reader)
    page.draw(2, 1, wish(0.1, "rest"))
    page.draw(3, 2, wish(0.2))
    engine.pause(Failure(error="the GPU trains ink", remedy="wait for it, or stop it in the queue"))
    page.draw(2, 3, wish(0.3))
    assert [reader.wait(stream, seq, Failed) for stream, seq in ((2, 1), (3, 2), (2, 3))] == [
        Failed(stream=s, seq=n, error="the GPU trains ink", remedy="wait for it, or stop it in the queue")
        for s, n in ((2, 1), (3, 2), (2, 3))
    ]
    engine.resume()
    page.draw(2, 4, wish(0.4))
    reader.wait(2, 4)
    assert reader.frames(2) == [4]


def test_a_wishs_key_tells_what_makes_another_picture(tmp_path: Path) -> None:
    lora = tmp_path / "a.safetensors"
    lora.write_bytes(b"1")

    def own(quality: Quality = "drag", dtype: str = "fp16", vector: object = None, seed: int = 1) -> str:
        term = TermWish(lora, 1.0, vector)  # type: ignore[arg-type]
        return PictureWish((term,), "pocket", SamplingWish(seed=seed), quality, dtype).key()

    assert own() == own() and own(vector={"A": 1.0, "B": 2.0}) == own(vector={"B": 2.0, "A": 1.0})
    assert own() == own(dtype="bf16")  # a quick picture is not rounded
    rules = {"A": 1.0, "IN/attn": 0.0, "IN05/attn1": 0.5}
    assert own(vector=rules) == own(vector={"IN/attn": 0.0, "IN05/attn1": 0.5, "A": 1.0})
    turned = own(vector={"A": 1.0, "IN05/attn1": 0.5, "IN/attn": 0.0})  # of rules the last that matches wins
    different = [
        own(vector=rules),
        turned,
        own(),
        own("rest"),
        own("rest", "bf16"),
        own(vector="GP1"),
        own(vector={"A": 1.0}),
        own(seed=2),
    ]
    lora.write_bytes(b"22")
    different.append(own())
    lora.unlink()
    different.append(own())
    assert len(set(different)) == len(different)
