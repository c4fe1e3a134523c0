"""A search run to its end in the real page on the pocket base: its weights are used, saved, and the file draws them."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest

from tests.browser.chrome import Page

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from loratools.adapter.files.save import write
from loratools.base.load import load_base
from tests.base.patching.test_patch import random_deltas
from tests.browser.studio_server import NOW, running
from tests.browser.test_studio_story import choose_prompt, drawn_by, on_screen

TAGS = {  # how often in 12 captions: prompts are made of them
    "1girl": 12,
    **dict.fromkeys(("full_body", "cowboy_shot", "face_focus"), 4),
    **dict.fromkeys(("brown_hair", "pink_hair", "green_eyes", "red_eyes", "dress", "hoodie"), 6),
    **dict.fromkeys(("waving", "peace_sign", "smile", "hat"), 3),
}
LONGEST = 420  # seconds of a search that may take one minute, on a machine that is shared


@pytest.mark.slow
def test_a_search_is_run_used_and_saved(browser: Page, tmp_path: Path) -> None:
    base = load_base("pocket", device="cpu")
    small = {name: own.scaled(0.05) for name, own in random_deltas(base, seed=1).items()}
    header = {"ss_tag_frequency": json.dumps({"1_ink": TAGS})}
    folder = tmp_path / "root"
    write(small, folder / "ink" / "ink-000001.safetensors", family="sd1", metadata=header)
    with running(folder) as address:
        browser.problems.clear()
        browser.requests.clear()
        browser.visit(address)
        browser.wait("document.querySelector('[data-epoch=\"1\"]') !== null")
        browser.js("document.querySelector('[data-epoch=\"1\"]').click()")
        browser.wait("document.querySelectorAll('.strip').length === 17")
        choose_prompt(browser)
        search(browser)
        browser.wait(f'document.querySelector("{NOW} .status.whole") !== null')
        shown = on_screen(browser)
        browser.js("document.querySelector('#save').click()")
        browser.wait("document.querySelector('#save-dialog .command') !== null")
        browser.js("document.querySelector('#save-now').click()")
        browser.wait("document.querySelector('#save-dialog .success') !== null")
        written = folder / "ink_1_weighed.safetensors"
        deadline = time.monotonic() + 60
        while not written.is_file():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        host = address.partition("/#")[0].removeprefix("http://")
        assert [url for url in browser.requests if host not in url and not url.startswith(("blob:", "data:"))] == []
        assert browser.problems == []
        browser.call("Page.navigate", url="about:blank")
    assert np.array_equal(shown, drawn_by(written, tmp_path / "grid"))


def search(page: Page) -> None:
    """Press what is wrong, give the search a minute, follow it to its evidence, and use what it found."""
    page.js("document.querySelector('[data-symptom=hands]').click()")
    page.wait("document.querySelector('#effort') !== null")
    page.js("(box => { box.value = '1m'; box.dispatchEvent(new Event('change')); })(document.querySelector('#effort'))")
    page.js("document.querySelector('#tune').click()")
    page.wait("document.querySelector('.result .job-line') !== null")
    assert "--budget 1m" in page.js("document.querySelector('.result .command pre').textContent")
    moved, deadline = False, time.monotonic() + LONGEST
    while not page.js("document.querySelector('.evidence .figures') !== null"):
        words = page.js("document.querySelector('.result').innerText")
        assert time.monotonic() < deadline and "failed" not in words, words
        moved = moved or page.js("document.querySelector('.result .meter[aria-valuenow]') !== null")
        time.sleep(0.5)
    assert moved, "no progress was shown"
    evidence = page.js("document.querySelector('.evidence').innerText")
    assert "the search never saw" in evidence and "hands" in evidence and "lower is better" in evidence
    page.wait("document.querySelector('.evidence img')?.complete")
    before = page.js("document.querySelector('.mixing input[type=text]:not(.number)')?.value")
    page.js("[...document.querySelectorAll('.evidence .button')].at(-1).click()")
    page.wait("document.querySelector('.guide li.now .dot')?.textContent === '3'")
    assert page.js("document.querySelector('.mixing input[type=text]:not(.number)')?.value") != before
