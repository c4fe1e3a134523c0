"""Is what is planted in a folder found, and how long does a look take? Run as ``python -m benchmarks.dataset``.

Folders of 500 drawings (512 x 512, all seven styles) have copies (another size, JPEG, brightness), variants (one
attribute of the same scene changed), lines of text, and transparent pictures planted in them. The thresholds were
chosen on seeds 1 and 2; the table is of others. Classes go by the boxes of the drawn figures, as an ideal detector
gives them. ``--look N`` measures the time and memory of a look at N pictures in a process of its own.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.dataset.figures import figure_boxes, moved_boxes
from benchmarks.dataset.folder import CLASS_OF, Truth, plant
from benchmarks.dataset.many import many_pictures
from benchmarks.dataset.scores import Score, links, score
from benchmarks.results_page import put
from loratools.dataset.detect.boxes import Box, Boxes
from loratools.dataset.detect.framing import framing_class, usual_heads_tall
from loratools.dataset.look.look import look
from loratools.pocket.draw import STYLES, Figure, random_figure

PAGE = Path(__file__).parents[1] / "results/dataset.md"
_COVERED = 0.7  # of a planted line that boxes must hold for it to count as found


def main() -> None:
    """Every part that is asked for, and its section of the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="11,12,13", help="of the folders with planted pictures")
    parser.add_argument("--count", type=int, default=500, help="pictures in each")
    parser.add_argument("--text", type=int, default=60, help="pictures with text to show to the detector; 0: none")
    parser.add_argument("--look", type=int, default=0, help="measure a look at so many pictures instead")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        if args.look:
            put(PAGE, f"A look at {args.look} pictures", look_time(Path(work), args.look))
            return
        seeds = [int(seed) for seed in args.seeds.split(",")]
        put(PAGE, "What is planted and found", planted(Path(work), seeds, args.count, args.text))


def planted(work: Path, seeds: list[int], count: int, texts: int) -> str:
    """The table of copies, variants, transparency, text and classes over several folders."""
    copies = variants = alpha = Score(0, 0, 0)
    lines = boxes = 0
    pictures = 0
    for seed in seeds:
        folder = work / str(seed)
        truth = plant(folder, count, seed)
        report = look(folder).json()
        pictures += report["pictures"]
        copies += score(links(truth.duplicates), links(report["duplicates"]))
        variants += score(links(truth.variants), links(report["variants"]))
        clear = set(report["transparent"])
        alpha += Score(len(truth.alpha), len(clear), len(clear & set(truth.alpha)))
        if texts:
            found = text_found(folder, truth, -(-texts // len(seeds)))
            lines, boxes, more = lines + found.planted, boxes + found.both, found.found - found.both
            print(f"seed {seed}: {found.both} of {found.planted} lines, {more} other boxes")
    right = classes()
    rows = [
        ("copies (pairs)", copies.planted, copies.precision, copies.recall),
        ("variants (pairs)", variants.planted, variants.precision, variants.recall),
        ("transparent pictures", alpha.planted, alpha.precision, alpha.recall),
    ]
    table = [f"| {name} | {planted} | {precision:.3f} | {recall:.3f} |" for name, planted, precision, recall in rows]
    return "\n".join(
        [
            f"Folders of seeds {', '.join(map(str, seeds))}: {pictures} pictures in all.",
            "",
            "| what | planted | precision | recall |",
            "|---|---|---|---|",
            *table,
            *([f"| lines of text (rapidocr) | {lines} | | {boxes / max(lines, 1):.3f} |"] if lines else []),
            f"| class by boxes and tags, right | {right.figures} | | {right.tagged / right.figures:.3f} |",
            f"| class by boxes alone, right | {right.figures} | | {right.boxed / right.figures:.3f} |",
            f"| the same with each side of a box 2 % off | {right.figures} | | {right.noisy / right.figures:.3f} |",
        ]
    )


def text_found(folder: Path, truth: Truth, count: int) -> Score:
    """Planted lines that the detector's boxes cover."""
    from loratools.dataset.detect.packages import TextDetector
    from loratools.dataset.images import open_image

    detector = TextDetector()
    total = Score(0, 0, 0)
    for file, lines in list(truth.text.items())[:count]:
        boxes = detector.boxes(open_image(folder / file))
        covered = [any(box.overlap(Box(*line)) >= _COVERED * Box(*line).area for box in boxes) for line in lines]
        other = sum(not any(box.overlap(Box(*line)) for line in lines) for box in boxes)
        total += Score(len(lines), sum(covered) + other, sum(covered))
    return total


@dataclass(frozen=True)
class ClassesRight:
    """How many of ``figures`` drawings get their class right: by boxes and tags, by boxes, and by boxes that a
    detector's noise moved (each side by 2 % of the box's side, as a standard deviation)."""

    figures: int
    tagged: int
    boxed: int
    noisy: int


def classes(count: int = 600) -> ClassesRight:
    """Class a folder of drawings of all styles and framings."""
    rngs = [random.Random(f"class {number}") for number in range(count)]
    figures = [random_figure(rng, style=rng.choice(list(STYLES))) for rng in rngs]
    boxes = [figure_boxes(figure, number, 512) for number, figure in enumerate(figures)]
    names = [[tag.replace("_", " ") for tag in figure.tags()] for figure in figures]
    nothing: list[list[str]] = [[] for _ in figures]
    noisy = [moved_boxes(each, rng, 512) for each, rng in zip(boxes, rngs, strict=True)]
    return ClassesRight(
        count, _right(figures, boxes, names), _right(figures, boxes, nothing), _right(figures, noisy, nothing)
    )


def _right(figures: list[Figure], boxes: list[Boxes], names: list[list[str]]) -> int:
    tall = usual_heads_tall(((512, 512), each) for each in boxes)
    return sum(
        framing_class((512, 512), tags, each, tall).name == CLASS_OF[figure.framing]
        for figure, each, tags in zip(figures, boxes, names, strict=True)
    )


_CHILD = """
import sys, time, json
from loratools.dataset.look.look import look
start = time.perf_counter()
report = look(sys.argv[1]).json()
try:
    import resource
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
except ImportError:
    most = 0
usage = time.process_time()
print(json.dumps([time.perf_counter() - start, usage, most, report["pictures"], len(report["variants"])]))
"""


def look_time(work: Path, count: int) -> str:
    """Time and memory of a look at ``count`` pictures of 512 x 512."""
    import json

    start = time.perf_counter()
    many_pictures(work / "many", count)
    print(f"drawn in {time.perf_counter() - start:.0f} s")
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, str(work / "many")], capture_output=True, text=True, check=True, encoding="utf-8"
    )
    wall, cpu, memory, pictures, groups = json.loads(done.stdout.strip().splitlines()[-1])
    text = (
        f"{pictures} pictures of 512 x 512, half PNG and half JPEG, with captions: {wall:.0f} s on {os.cpu_count()} "
        f"cores, {cpu:.0f} s of CPU time ({1000 * cpu / pictures:.1f} ms a picture), {memory:.0f} MiB."
    )
    print(text, f"({groups} groups of variants)")
    return text


if __name__ == "__main__":
    main()
