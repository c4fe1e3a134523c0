"""Bulk edits of 5,000 captions: ``python -m benchmarks.prepared.caption_edits [--count N]``.

Captions of 31 tags. Each line is one edit as the command does it: read, filter, plan, log, write; then its undo. Wall
time depends on the disk (every caption is a file of its own that is replaced whole) and on what else the machine does,
so that the processor's time stands beside it.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from loratools.dataset.edits.edit import CaptionEditor
from loratools.dataset.edits.log import Edit
from loratools.dataset.edits.operations import Prune, Remove, Sort, Trigger
from loratools.dataset.edits.prune import PruneRules
from loratools.dataset.tags.store import DatasetFolder

EDITS = (
    Edit(Remove(("tag 3", "own *")), "tag 7 and not smile"),
    Edit(Remove(("tag 5",)), "share>40%"),
    Edit(Prune(PruneRules(junk=True, overlaps=True, contradictions=True))),
    Edit(Sort("name"), "tags>5"),
    Edit(Trigger("ink")),
)


def fill(folder: Path, count: int) -> None:
    """Pictures of one pixel with captions."""
    picture = folder / "picture.png"
    Image.new("RGB", (1, 1)).save(picture)
    data = picture.read_bytes()
    picture.unlink()
    tags = ", ".join(f"tag {number}" for number in range(29))
    for number in range(count):
        (folder / f"{number:05d}.png").write_bytes(data)
        (folder / f"{number:05d}.txt").write_text(f"{tags}, highres, own {number}\n", encoding="utf-8")


def timed(what: str, work: Callable[[], int]) -> None:
    """Print how long something took."""
    wall, processor = time.perf_counter(), time.process_time()
    changed = work()
    print(
        f"| {what} | {changed} | {time.perf_counter() - wall:.2f} s | {time.process_time() - processor:.2f} s |",
        flush=True,
    )


def main() -> None:
    """Time every edit, and the undo of the last one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=5000)
    count = parser.parse_args().count
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        fill(folder, count)
        print("| edit | captions | wall | processor |\n|---|---|---|---|")

        def do(edit: Edit) -> int:
            editor = CaptionEditor(DatasetFolder.open(folder))
            plan = editor.plan(edit)
            editor.apply(edit, plan)
            return len(plan.changes)

        for edit in EDITS:
            timed(edit.text(), lambda edit=edit: do(edit))  # type: ignore[misc]
        timed("undo", lambda: CaptionEditor(DatasetFolder.open(folder)).undo().restored)


if __name__ == "__main__":
    main()
