"""Norm shares of a file: computed once, kept by its stamp, sent when they are known."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from loratools.adapter.algebra.lowrank import LowRank
from loratools.adapter.files.file import read
from loratools.blocks.scheme import full_scheme
from loratools.errors import FormatError
from loratools.studio.api.words import problem
from loratools.studio.discover.walk import Stamp
from loratools.studio.measuring.norms import Norms
from loratools.studio.measuring.process import answer
from tests.loras import lora_tensors, save
from tests.studio.served import served


class Measurer:
    """Measures in this process, or fails as it is told to; counts what it is asked."""

    def __init__(self, failing: Callable[[], Exception] | None = None) -> None:
        self.failing, self.asked = failing, list[str]()

    def ask(self, stack: str, other: str | None = None) -> Mapping[str, object]:
        self.asked.append(stack)
        if self.failing is not None:
            raise self.failing()
        return answer({"stack": stack, "other": other})


def known(norms: Norms, path: Path, stamp: Stamp) -> Mapping[str, float]:
    deadline = time.monotonic() + 30
    while (shares := norms.shares(path, stamp)) is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return shares


@pytest.fixture
def lora(tmp_path: Path) -> Path:
    path = tmp_path / "ink, 1:1.safetensors"  # a name that a merge string has to quote
    save(path, lora_tensors(rank=2, alpha=1.0, seed=1))
    return path


STAMP = Stamp(1, 1)


def test_shares_are_those_of_the_dense_differences_and_are_kept(tmp_path: Path, lora: Path) -> None:
    told: list[Path] = []
    measurer = Measurer()
    norms = Norms(tmp_path / "norms.json", measurer, told.append)
    assert norms.shares(lora, STAMP) is None
    shares = known(norms, lora, STAMP)
    squares: dict[str, float] = {}
    for name, delta in read(lora).items():
        assert isinstance(delta, LowRank)
        block = full_scheme("sd1").block_of(name) or "(none)"
        squares[block] = squares.get(block, 0.0) + float((delta.up.double() @ delta.down.double()).square().sum())
    total = math.fsum(squares.values())
    assert shares == pytest.approx({name: square / total for name, square in squares.items()}, rel=1e-5)
    assert math.fsum(shares.values()) == pytest.approx(1)
    again = Norms(tmp_path / "norms.json", Measurer(), told.append)
    assert again.shares(lora, STAMP) == shares
    known(again, lora, Stamp(2, 1))
    deadline = time.monotonic() + 10
    while len(told) < 2:  # it is said after it is known
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert len(measurer.asked) == 1


def test_a_file_that_cannot_be_measured_is_not_asked_about_again(tmp_path: Path, lora: Path) -> None:
    measurer = Measurer(lambda: FormatError("a DoRA needs its base"))
    norms = Norms(tmp_path / "norms.json", measurer, lambda path: None)
    assert known(norms, lora, STAMP) == {} and norms.shares(lora, STAMP) == {} and len(measurer.asked) == 1


def test_a_question_that_gave_way_is_asked_again(tmp_path: Path, lora: Path) -> None:
    measurer = Measurer(lambda: problem("norms.busy", status=503))
    norms = Norms(tmp_path / "norms.json", measurer, lambda path: None)
    assert norms.shares(lora, STAMP) is None
    deadline = time.monotonic() + 10
    while len(measurer.asked) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    measurer.failing = None
    assert math.fsum(known(norms, lora, STAMP).values()) == pytest.approx(1)


def test_a_damaged_cache_is_made_anew(tmp_path: Path, lora: Path) -> None:
    (tmp_path / "norms.json").write_text('{"format": 1, "files": {"a": [1]}}')
    assert known(Norms(tmp_path / "norms.json", Measurer(), lambda path: None), lora, STAMP)


def test_the_page_gets_shares_with_a_file_once_an_event_said_so(tmp_path: Path) -> None:
    save(tmp_path / "ink.safetensors", lora_tensors(rank=2, seed=1))
    here = served(tmp_path).sign_in()
    here.studio.index.refresh()
    here.studio.norms._measurer = Measurer()
    own = here.client.get("/api/loras").json()[0]["id"]
    blocks = here.client.get(f"/api/loras/{own}").json()["scheme"]["blocks"]
    assert [block["norm_share"] for block in blocks] == [None] * len(blocks)
    deadline = time.monotonic() + 30
    while not (events := [event for event in here.studio.events._events if event.event == "norms"]):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert events[0].data == {"ids": [own]}
    blocks = here.client.get(f"/api/loras/{own}").json()["scheme"]["blocks"]
    assert math.fsum(block["norm_share"] for block in blocks) == pytest.approx(1)
