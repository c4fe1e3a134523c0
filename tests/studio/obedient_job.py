"""A job's process without torch: it counts to the number in its command, and does what it is asked.

``python -m tests.studio.obedient_job FOLDER`` with the argv ``["count", "30"]``, ``["fail"]`` or ``["vanish"]``; with
``["ask", OUT]`` it asks three pairs in ``OUT`` and fails as a search does that waits, until they are answered.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from PIL import Image

from loratools.studio.jobs.job_folder import JobFolder
from loratools.tune.asking.round_page import Cell, PageContent, RoundPage


def main() -> int:
    folder = JobFolder(Path(sys.argv[1]))
    with folder.alive():
        folder.begin()
        argv = folder.command().argv
        print("runs", *argv, flush=True)
        if argv[0] == "vanish":
            os._exit(9)
        if argv[0] == "ask":
            code = ask(Path(argv[1]))
        else:
            code = 1 if argv[0] == "fail" else count(folder, int(argv[1]))
        if argv[0] == "fail":
            print("error: it was meant to fail", flush=True)
        folder.end(code, folder.last_error() if code else "")
    return code


def ask(out: Path) -> int:
    page = RoundPage(out / "votes/round-1")
    if not page.written:
        page.folder.mkdir(parents=True)
        cells = []
        for n in range(4):
            Image.new("RGB", (8, 8), (60 * n, 0, 0)).save(page.folder / f"{n}.png")
            cells.append(Cell(f"key{n}", "row", str(n), f"{n}.png", ()))
        pairs = (("key0", "key1"), ("key1", "key2"), ("key2", "key3"))
        page.write(PageContent("votes", (), tuple(cells), (8, 8), pairs, "Which is less bad?"))
    votes = page.votes()
    return 0 if votes is not None and len(votes.pairs) == 3 else 1


def count(folder: JobFolder, total: int) -> int:
    for done in range(total):
        stop, after_epoch = folder.asked()
        if stop or (after_epoch and done % 5 == 4):
            return 130
        folder.progress.write_text(json.dumps({"done": done, "total": total, "unit": "step", "what": "counting"}))
        print("step", done, flush=True)
        time.sleep(0.05)
    return 0


if __name__ == "__main__":
    sys.exit(main())
