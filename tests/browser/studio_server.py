"""A real ``loratools studio`` with the engine that makes its pictures up, and a browser's page on it."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.browser.chrome import Page
from tests.loras import lora_tensors, save

ROOT = Path(__file__).parents[2]
NOW = "figure[data-stream='2']"
WATCH = """(() => {
  window.hand = { moved: 0, sent: {}, drawn: [] };
  addEventListener('pointermove', event => { hand.moved = event.timeStamp; }, true);
  const send = WebSocket.prototype.send;
  WebSocket.prototype.send = function (data) {
    if (typeof data === 'string' && data.includes('"draw"')) {
      const { stream, seq, quality, stack } = JSON.parse(data);
      hand.sent[stream + ':' + seq] = { moved: hand.moved, quality, stack };
    }
    return send.call(this, data);
  };
  document.addEventListener('studio:picture', ({ detail: { stream, seq, preview } }) => requestAnimationFrame(() => {
    const own = hand.sent[stream + ':' + seq];
    if (own) hand.drawn.push({ stream, seq, preview, ms: performance.now() - own.moved });
  }));
})()"""
"""Notes in the page when the hand moved last, what was asked for then, and when its picture was on the canvas."""


@contextlib.contextmanager
def studio(folder: Path) -> Iterator[str]:
    """A server over ``folder``, in which a LoRA lies; its address with the token."""
    save(folder / "ink.safetensors", lora_tensors(rank=2, alpha=1.0, seed=1))
    with running(folder, "--fake-engine") as address:
        yield address


@contextlib.contextmanager
def running(folder: Path, *options: str) -> Iterator[str]:
    """A server over what lies in ``folder``; its address with the token."""
    command = [sys.executable, "-m", "loratools", "studio", str(folder), "--no-browser", *options]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        try:
            assert server.stdout is not None
            for line in server.stdout:
                if found := re.search(r"http://\S+", line):
                    yield found[0]
                    break
            else:
                raise RuntimeError("the studio ended without an address")
        finally:
            server.terminate()


def open_blocks(page: Page, address: str) -> None:
    """Show the desk with the folder's LoRA on it and its whole picture on the screen."""
    page.call("Page.addScriptToEvaluateOnNewDocument", source=WATCH)
    page.visit(address, height=1600)  # all of the desk is in the window
    page.wait("document.querySelector('main') !== null")
    page.js("location.hash = '#/blocks'")
    page.wait("document.querySelector('#add-lora, .start button') !== null")
    page.js("(document.querySelector('#add-lora') ?? document.querySelector('.start button')).click()")
    page.wait("document.querySelector('#add-dialog .files button') !== null")
    page.js("document.querySelector('#add-dialog .files button').click()")
    page.wait("document.querySelectorAll('.strip').length === 17")
    page.wait(f"document.querySelector(\"{NOW}\")?.dataset.preview === 'false'")


def drawn(page: Page) -> list[dict[str, Any]]:
    """The pictures of the stream Now that were on the canvas, in order."""
    return [own for own in page.js("hand.drawn") if own["stream"] == 2]
