"""The whole way on the pocket base: choose an epoch, repair it, save, and the file draws what was on the screen."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.browser.chrome import Page

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from loratools.adapter.files.file import read
from loratools.adapter.files.save import write
from loratools.base.load import load_base
from loratools.preview.request.request import SamplingRequest
from loratools.preview.request.rows import GridRow
from loratools.preview.run import render_grid
from tests.base.patching.test_patch import random_deltas
from tests.browser.studio_server import NOW, running

STEPS = 6
PROMPT = "full_body, 1girl, smile"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs on the pocket base."""
    out = tmp_path_factory.mktemp("studio")
    base = load_base("pocket", device="cpu")
    for epoch in (1, 2):
        small = {name: own.scaled(0.05) for name, own in random_deltas(base, seed=epoch).items()}
        write(small, out / "ink" / f"ink-{epoch:06d}.safetensors", family="sd1")
    return out


@pytest.fixture
def page(browser: Page, folder: Path) -> Iterator[Page]:
    with running(folder) as address:
        browser.problems.clear()
        browser.visit(address)
        browser.wait("document.querySelector('main .panel') !== null")
        yield browser
        problems = list(browser.problems)
        browser.call("Page.navigate", url="about:blank")
        browser.wait("location.href === 'about:blank'")
    assert problems == []


def on_screen(page: Page) -> np.ndarray:
    """The pixels of the picture Now."""
    data = page.js(f"document.querySelector(\"{NOW} canvas\").toDataURL('image/png').split(',')[1]")
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def choose_prompt(page: Page) -> None:
    """Draw one short picture of PROMPT."""
    page.js("[...document.querySelectorAll('.beside-pictures .button')][0].click()")
    page.wait("document.querySelector('#scenes textarea') !== null")
    page.js(f"""(() => {{ const set = (selector, value) => {{
      const field = document.querySelector('#scenes ' + selector);
      field.value = value; field.dispatchEvent(new Event('change')); }};
      set('textarea', {PROMPT!r}); set('.sampling input.number', '{STEPS}'); }})()""")
    page.key("Escape")


def drawn_by(file: Path, out: Path) -> np.ndarray:
    """The pixels of the picture that a LoRA file draws of PROMPT."""
    base, row = load_base("pocket", device="cpu"), GridRow.of_file(read(file), "saved")
    result = render_grid(base, [row], [1.0], [PROMPT], out=out, sampling=SamplingRequest(steps=STEPS), seeds=(1,))
    with Image.open(result.paths("saved", 1.0)[0]) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def test_an_epoch_is_chosen_and_repaired_and_its_file_draws_what_was_shown(
    page: Page, folder: Path, tmp_path: Path
) -> None:
    page.wait("document.querySelector('[data-epoch=\"2\"]') !== null")
    page.js("document.querySelector('[data-epoch=\"2\"]').click()")
    page.wait("document.querySelectorAll('.strip').length === 17")
    choose_prompt(page)
    page.wait("document.querySelector('[data-symptom=hands]') !== null")
    page.js("document.querySelector('[data-symptom=hands]').click()")
    page.js("document.querySelector('#fix').click()")
    page.wait("document.querySelector('.result .command') !== null")
    page.drag("[data-block='IN01'] .fader", 0, 30)
    page.wait(f'document.querySelector("{NOW} .status.whole") !== null')
    shown = on_screen(page)
    page.js("document.querySelector('#save').click()")
    page.wait("document.querySelector('#save-dialog .command') !== null")
    page.js("document.querySelector('#save-now').click()")
    page.wait("document.querySelector('#save-dialog .success') !== null")
    written = folder / "ink_2_weighed.safetensors"
    deadline = time.monotonic() + 20
    while not written.is_file():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert np.array_equal(shown, drawn_by(written, tmp_path / "grid"))
    assert page.js("document.querySelectorAll('.guide li.done').length") == 3
