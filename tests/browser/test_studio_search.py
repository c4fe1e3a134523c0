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

SECOND = "1girl, cowboy_shot, waving, brown_hair"
LONGEST = 420  # seconds of a search that may take one minute, on a machine that is shared


@pytest.mark.slow
def test_a_search_is_run_used_and_saved(browser: Page, tmp_path: Path) -> None:
    base = load_base("pocket", device="cpu")
    small = {name: own.scaled(0.05) for name, own in random_deltas(base, seed=1).items()}
    folder = tmp_path / "root"
    write(small, folder / "ink" / "ink-000001.safetensors", family="sd1")
    with running(folder) as address:
        browser.problems.clear()
        browser.requests.clear()
        browser.visit(address)
        browser.wait("document.querySelector('[data-epoch=\"1\"]') !== null")
        browser.js("document.querySelector('[data-epoch=\"1\"]').click()")
        browser.wait("document.querySelectorAll('.strip').length === 17")
        choose_prompt(browser)
        second_prompt(browser)
        search(browser)
        found = json.loads((folder / "ink-000001-hands" / "tune.json").read_text(encoding="utf-8"))
        blocks = {name: weight for name, weight in found["vector"].items() if "/" not in name}
        assert sliders(browser) == pytest.approx(blocks, abs=1e-3)
        browser.js("document.querySelector('.rules details:not([open]) summary')?.click()")  # where there are many
        time.sleep(0.2)
        assert rules(browser) == pytest.approx({k: v for k, v in found["vector"].items() if "/" in k}, abs=1e-3)
        kinds = "document.querySelector('#add-rule')"
        if not any(rule.startswith("OUT05/") for rule in rules(browser)):
            browser.js(f"{kinds}.value = [...{kinds}.options].find(own => own.value.startsWith('OUT05/')).value")
            browser.js(f"{kinds}.dispatchEvent(new Event('change'))")
        added = browser.js("[...document.querySelectorAll('[data-rule^=\"OUT05/\"]')].at(-1).dataset.rule")
        write_number(browser, f"[data-rule='{added}'] input", "0.15")  # whatever was found, a kind of layers of its own
        browser.js("document.querySelector('[data-block=IN04] .fader').focus()")
        browser.key("ArrowDown")  # whatever was found: not the whole LoRA
        assert rules(browser)[added] == 0.15
        time.sleep(0.5)  # the hand rests, and what was whole is drawn anew
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


def second_prompt(page: Page) -> None:
    """Another picture of the same seed: a search with these two draws few pictures."""
    page.js("[...document.querySelectorAll('.beside-pictures .button')][0].click()")
    page.wait("document.querySelector('#scenes .tools .button') !== null")
    page.js("document.querySelector('#scenes .tools .button').click()")
    page.wait("document.querySelectorAll('#scenes textarea').length === 2")
    page.js(f"""(() => {{ const [, second] = document.querySelectorAll('#scenes textarea');
      second.value = {SECOND!r}; second.dispatchEvent(new Event('change')); }})()""")
    page.key("Escape")


def search(page: Page) -> None:
    """Press what is wrong, give the search a minute, follow it to its evidence, and use what it found."""
    page.js("document.querySelector('[data-symptom=hands]').click()")
    page.wait("document.querySelector('#effort') !== null")
    page.js("(box => { box.value = '1m'; box.dispatchEvent(new Event('change')); })(document.querySelector('#effort'))")
    page.js("document.querySelector('#own-prompts').click()")
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
    page.js("[...document.querySelectorAll('.evidence .button')].at(-1).click()")
    page.wait(
        "[...document.querySelectorAll('.notice.done')].some(own => own.innerText.includes('undo takes them back'))"
    )


def sliders(page: Page) -> dict[str, float]:
    """Each block's weight as its slider stands."""
    strips = (
        "[...document.querySelectorAll('.strip')].map(own => [own.dataset.block, own.querySelector('input').value])"
    )
    return {block: float(value) for block, value in page.js(strips)}


def rules(page: Page) -> dict[str, float]:
    """Each kind of layers that has a weight of its own, as the list below the sliders has it."""
    listed = (
        "[...document.querySelectorAll('.rule-chip')].map(own => [own.dataset.rule, own.querySelector('input').value])"
    )
    return {rule: float(value) for rule, value in page.js(listed)}


def write_number(page: Page, selector: str, number: str) -> None:
    """Type a number into a field and leave it."""
    field = f"document.querySelector({json.dumps(selector)})"
    page.js(f"(own => {{ own.focus(); own.value = {number!r}; own.blur(); }})({field})")
