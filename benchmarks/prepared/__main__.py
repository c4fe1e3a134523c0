"""``python -m benchmarks.prepared --work DIR [--keep DIR] [--epochs N] [--jobs N] [--minutes M]``: does it help?

Six cases, three styles by two seeds. Each draws a folder as it would be downloaded (28 drawings, four of them five
times, more faces than main pictures, three junk tags a caption), trains on it as it is, and on what `dataset prepare`,
`edit prune --junk` and `balance` make of it, with as many pictures shown, and has the pocket's judge look at 200
pictures of each LoRA's. Cases that are done stay as ``NAME.json`` in ``--keep``; ``--report`` writes the page.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from benchmarks.jobs import Results, add_options, limits_of, run_cases
from benchmarks.prepared.case_run import EPOCHS, PREPARED, RAW, run_case
from benchmarks.prepared.cases import cases
from loratools.files import write_text

RESULTS = Path(__file__).parents[1] / "results/prepared"
FIGURES = ("value", "style", "tags", "defects", "nearest")
_HEAD = """\
# Does preparing a data set help?

Written by `python -m benchmarks.prepared`. The same drawings raw and prepared, {count} cases (style and seed), the same
preset and as many pictures shown ({epochs} epochs of the prepared set); the pocket's judge on 25 prompts x 8 seeds that
nothing was trained on, at weight 1.
Raw: 28 drawings, four of them there five times, 12 faces to 10 main pictures, three junk tags in each caption.
Prepared: copies out (`dataset prepare`), junk out (`dataset edit prune --junk`), classes 4 to 1 (`dataset balance`).
Value is style x tags obeyed x (1 - mean grade of defects / 3); nearest is the cosine to the nearest drawing, and copies
the share of pictures that copy one of the 28.

"""


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """The whole page."""
    heads = ("case", "set", "shown", *FIGURES, "copies")
    epochs = "/".join(sorted({str(case["epochs"]) for case in results.values()}))
    lines = [
        _HEAD.format(count=len(results), epochs=epochs),
        f"| {' | '.join(heads)} |",
        "|---" * len(heads) + "|",
    ]
    for name, case in results.items():
        for arm in ("base", RAW, PREPARED):
            cells = [f"{case[arm][key][0]:.3f} ± {case[arm][key][1]:.3f}" for key in FIGURES]
            shown = case["shown"].get(arm, "")
            lines.append(f"| {name} | {arm} | {shown} | {' | '.join(cells)} | {case[arm]['copies']:.1%} |")
    if len(results) > 1:
        lines += ["", "Prepared less raw, mean over the cases and its standard error:", ""]
        for key in (*FIGURES, "copies"):
            gains = [_figure(case[PREPARED], key) - _figure(case[RAW], key) for case in results.values()]
            better = sum(gain > 0 for gain in gains)
            error = stdev(gains) / len(gains) ** 0.5
            lines.append(f"- {key}: {fmean(gains):+.4f} ± {error:.4f} (higher in {better} of {len(gains)})")
    return "\n".join(lines) + "\n"


def _figure(arm: Mapping[str, Any], key: str) -> float:
    value = arm[key]
    return float(value[0] if isinstance(value, list) else value)


def main() -> None:
    """Every case that is not done yet, then the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("runs/bench-prepared"), help="runs and pictures; bulky")
    parser.add_argument("--keep", type=Path, default=RESULTS, help="where finished cases go; small")
    parser.add_argument("--only", default="", help="a part of the cases' names")
    parser.add_argument("--quick", action="store_true", help="seven drawings, one epoch: does everything run?")
    parser.add_argument(
        "--epochs", type=int, default=EPOCHS, help="over the prepared set; a CPU does 3 in a quarter of an hour"
    )
    parser.add_argument("--report", action="store_true", help="only write the page of what is there")
    add_options(parser)
    args = parser.parse_args()
    names = [case.name for case in cases(quick=args.quick) if args.only in case.name]
    results = Results(RESULTS, args.keep)
    if not args.report:
        args.keep.mkdir(parents=True, exist_ok=True)
        run_cases(names, partial(run_case, epochs=args.epochs, quick=args.quick), args.work, results, limits_of(args))
    text = table(results.read(names))
    write_text(args.keep.with_suffix(".md"), text)
    print(text, flush=True)


if __name__ == "__main__":
    main()
