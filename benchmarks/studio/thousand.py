"""A grid of a thousand pictures: how soon it stands, and whether scrolling ever holds the page up.

A real server over a grid on disk, and headless Chromium; the main thread's own processor time says what an idle machine
would take.
"""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import torch
from PIL import Image

from benchmarks.previews.bench import Figure, Figures
from loratools.preview.record.cells import SamplingSettings
from loratools.preview.record.folder import write_grid
from loratools.preview.record.grid import Grid, Picture, RowInfo
from tests.browser.chrome import Page, chrome
from tests.browser.studio_server import running

_ROWS, _WEIGHTS, _SEEDS = 50, (0.0, 0.25, 0.5, 0.75, 1.0), (1, 2, 3, 4)
_FRAMES = 120  # of one way through all rows
_MOST_TASK, _MOST_PAINT = 100.0, 1.0  # ms, s
_SHOWN = "[...document.querySelectorAll('.grid-cell img')].some(image => image.complete && image.naturalWidth)"
_OPEN = f"""new Promise(done => {{ const began = performance.now();
  document.querySelector('.picks button').click();
  const look = () => {_SHOWN} ? done(performance.now() - began) : requestAnimationFrame(look);
  look(); }})"""
_SCROLL = f"""new Promise(done => {{ const box = document.querySelector('.picture-grid'); let n = 0;
  const most = box.scrollHeight - box.clientHeight, began = performance.now();
  const step = () => {{ box.scrollTop = most * n / {_FRAMES}; n += 1;
    n <= {_FRAMES} ? requestAnimationFrame(step) : done(performance.now() - began); }};
  step(); }})"""


def thousand(work: Path, device: torch.device, *, tiny: bool) -> Figures:
    """A grid of 1,000 pictures in headless Chromium: the first of them are seen < 1 s after the click, and no task of
    the page's thread takes more than 100 ms while all rows are scrolled through."""
    _make_grid(work / "folder" / "grid", 5 if tiny else _ROWS)
    with running(work / "folder") as address, chrome(work / "profile") as page:
        page.call("Performance.enable", timeDomain="threadTicks")
        page.visit(address)
        page.wait("document.querySelector('main .panel, main .start') !== null")
        page.js("location.hash = '#/epochs'")
        page.wait("document.querySelector('.picks button') !== null")
        before = _busy(page)
        painted = float(page.js(_OPEN)) / 1000
        opening = _busy(page) - before
        before, scrolled = _busy(page), float(page.js(_SCROLL)) / 1000
        scrolling = _busy(page) - before
        longest = max(page.tasks(lambda: page.js(_SCROLL)), default=0.0)
    yield Figure("until the first pictures are seen", painted, "s", f"< {_MOST_PAINT:.0f}", painted < _MOST_PAINT)
    yield Figure("the page's thread until then", opening, "s", note="of a processor")
    met = longest <= _MOST_TASK
    yield Figure("longest task while scrolling", longest, "ms", f"<= {_MOST_TASK:.0f}", met, "of a processor")
    frame = 1000 * scrolling / (_FRAMES + 1)
    yield Figure("the page's thread for a frame while scrolling", frame, "ms", note=f"of a processor; {scrolled:.1f} s")


def _busy(page: Page) -> float:
    """Seconds of a processor that the page's thread has used."""
    metrics = page.call("Performance.getMetrics")["metrics"]
    return float(next(own["value"] for own in metrics if own["name"] == "TaskDuration"))


def _make_grid(folder: Path, rows: int) -> None:
    """A grid of ``rows`` epochs, five weights and four seeds, each cell a file of its own."""
    (folder / "cells").mkdir(parents=True)
    rng, kinds = random.Random(1), []
    for n in range(25):
        noise = Image.frombytes("RGB", (32, 32), rng.randbytes(32 * 32 * 3))
        kinds.append(folder / f"kind{n}.png")
        noise.resize((256, 256), Image.Resampling.BICUBIC).save(kinds[-1])
    pictures = []
    for row in range(rows):
        for weight in _WEIGHTS:
            for seed in _SEEDS:
                name = f"cells/{row}_{weight}_{seed}.png"
                shutil.copyfile(rng.choice(kinds), folder / name)
                pictures.append(Picture(row, weight, 0, seed, name, f"{row}-{weight}-{seed}"))
    named = tuple(RowInfo(f"ink@{row + 1}", f"{row:064x}") for row in range(rows))
    settings = SamplingSettings(steps=20, cfg=7.0, sampler="Euler", size=(256, 256), negative="")
    write_grid(
        folder,
        Grid("bench", "ink", "base", "0" * 64, "fp16", named, _WEIGHTS, ("1girl",), _SEEDS, settings, tuple(pictures)),
    )
