"""Hand, page, server and engine together: pictures come in order, outdated ones are dropped, the last value stays."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.chrome import Page

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from loratools.studio.live.fake import colours
from loratools.studio.live.wish import PictureWish, SamplingWish, TermWish
from tests.browser.studio_server import NOW, drawn, open_blocks, studio

MOVES = 60
SETTLED = """(() => {
  const last = hand.drawn.filter(own => own.stream === 2).at(-1);
  const asked = Object.keys(hand.sent).filter(key => key.startsWith('2:')).map(key => Number(key.slice(2)));
  return last !== undefined && !last.preview && last.seq === Math.max(...asked);
})()"""
"""The whole picture of what was asked for last is on the canvas."""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with studio(tmp_path_factory.mktemp("studio")) as url:
        yield url


def test_the_pictures_of_a_drag_come_in_order_and_end_with_its_last_value(browser: Page, address: str) -> None:
    open_blocks(browser, address)
    browser.js("hand.drawn.length = 0")
    browser.drag("[data-block='OUT03'] .fader", 0, 60, steps=MOVES)
    time.sleep(0.3)  # the last value is asked for
    browser.wait(SETTLED)
    pictures, sent = drawn(browser), browser.js("hand.sent")
    numbers = [own["seq"] for own in pictures]
    assert numbers == sorted(set(numbers)) and len(numbers) >= 3
    asked = {int(key.split(":")[1]) for key in sent if key.startswith("2:")}
    assert numbers[-1] == max(asked) and not pictures[-1]["preview"]
    quick = [sent[f"2:{number}"]["quality"] == "drag" for number in numbers]  # a stall makes the hand rest
    assert [own["preview"] for own in pictures] == quick and any(quick) and len(pictures) <= MOVES + 1
    term = sent[f"2:{numbers[-1]}"]["stack"]["terms"][0]
    wish = PictureWish((TermWish(Path("a"), term["weight"], term["vector"]),), "pocket", SamplingWish(), "rest")
    value = float(browser.js("document.querySelector(\"[data-block='OUT03'] .fader\").ariaValueNow"))
    assert term["vector"]["OUT03"] == value
    canvas = f'document.querySelector("{NOW} canvas")'
    middle = f"{canvas}.width / 2, {canvas}.height / 4, 1, 1"
    shown = browser.js(f"[...{canvas}.getContext('2d').getImageData({middle}).data].slice(0, 3)")
    assert shown == list(colours(wish)[0])


def test_nothing_is_asked_of_any_other_machine(browser: Page, address: str) -> None:
    host = address.split("/")[2]
    seen = {url.split("/")[2] for url in browser.requests if not url.startswith(("blob:", "data:", "about:"))}
    assert seen <= {host}
