"""The grid's page in headless Chromium: ``python -m tools.pictures.screens GRID PAGE.png PAIRS.png``.

GRID is the folder of a grid, such as the demo's ``demo/sheet``; the driver is that of tests/browser.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.browser.chrome import chrome


def main(grid: Path, page: Path, pairs: Path) -> None:
    """Two screens: a cell pinned, some with stars and the info panel open; and a blind pair in dark."""
    file = (grid / "grid.html").resolve()
    with tempfile.TemporaryDirectory() as profile, chrome(Path(profile)) as shown:
        shown.open(file, width=1280, height=720)
        shown.js("document.querySelector('#table .cell[tabindex=\"0\"]').focus()")
        for key in ("ArrowRight", "ArrowRight", "ArrowDown", "4", "ArrowRight", "5", "ArrowDown", "p"):
            shown.key(key)
        for key in ("ArrowRight", "3", "ArrowDown", "i"):
            shown.key(key)
        shown.screenshot(page)
        shown.open(file, width=1100, height=620, dark=True)
        shown.key("v")
        shown.screenshot(pairs)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
