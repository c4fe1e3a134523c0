"""How often the 0.9 test is right: ``python -m benchmarks.verdict GRID...``, over folders of grids of the pocket base.

The pocket's judge stands in for the truth: a cell is broken where it finds less than half of the asked tags, and
defects; sound where it finds four fifths and more; and between them otherwise. Every cell of a row and a weight is put
to the test as if it were alone. Prints how many of each kind break, stray or hold, and names the misses.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean

from PIL import Image

from loratools.pocket.draw import asked_tags
from loratools.pocket.judge import Reading, shipped_judge
from loratools.preview.judge.verdict import PictureMeasures, judge_pictures, read_pixels
from loratools.preview.record.folder import read_grid
from loratools.preview.record.grid import Grid, Picture

KINDS, ANSWERS = ("broken", "between", "sound"), ("breaks", "strays", "holds")
MISSES = (("broken", "strays"), ("broken", "holds"), ("sound", "breaks"), ("sound", "strays"))
_FOUND, _SOUND, _DEFECTS = 0.5, 0.8, 0.55  # shares of the tags, and the mean grade of defects, 0 to 3


def kind(grid: Grid, pictures: list[Picture], readings: dict[str, Reading]) -> str:
    """What the judge says of one cell."""
    read = [readings[picture.file] for picture in pictures]
    tags = fmean(one.obeys(asked_tags(grid.prompts[p.prompt])) for one, p in zip(read, pictures, strict=True))
    defects = fmean(fmean(one.faults.values()) for one in read)
    if tags < _FOUND and defects > _DEFECTS:
        return "broken"
    return "sound" if tags >= _SOUND else "between"


def cells(folder: Path) -> Iterator[tuple[str, str, str]]:
    """Every cell above a weight of 0: where it is, what it is, and what the test says of it."""
    grid = read_grid(folder)
    files = sorted({picture.file for picture in grid.pictures})
    readings = dict(zip(files, shipped_judge([Image.open(folder / file) for file in files]), strict=True))
    for row, weight in grid.cells():
        own, base = grid.cell(row, weight), grid.cell(row, 0.0)
        if weight > 0 and own and len(own) == len(base):
            pixels = {at: [read_pixels(folder / p.file) for p in part] for at, part in ((0.0, base), (weight, own))}
            verdict = judge_pictures(
                {weight: [PictureMeasures(picture) for picture in own] for weight, own in pixels.items()}
            )
            answer = (
                "breaks" if verdict.breaks is not None else "strays" if "another picture" in verdict.text else "holds"
            )
            yield f"{folder.name} {grid.rows[row].label} at {weight:g}", kind(grid, own, readings), answer


def main() -> None:
    """Count, and name what the test got wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("grids", nargs="+", type=Path)
    count: Counter[tuple[str, str]] = Counter()
    for folder in parser.parse_args().grids:
        for where, actual, answer in cells(folder):
            count[actual, answer] += 1
            if (actual, answer) in MISSES:
                print(f"  {where}: {actual}, and the test says that it {answer}")
    for actual in KINDS:
        print(f"{actual}: " + ", ".join(f"{count[actual, answer]} {answer}" for answer in ANSWERS))


if __name__ == "__main__":
    main()
