"""``python -m benchmarks.subtraction --work DIR [--keep DIR] [--jobs N] [--minutes M]``: ways to subtract, judged.

Twelve style LoRAs and the base's own are trained on the pocket base; the guide's merge, its subtraction alone, with the
wrong sign and whole, `matched`, `project`, `soft` and an amount that was tuned are drawn and judged beside the whole
LoRA. Cases run ``--jobs`` at once, on all GPUs in turn. Each that is done is ``NAME.json`` (figures of every picture)
and ``NAME.webp`` in ``--keep``; what lies there or in ``benchmarks/results/subtraction`` is not made again.
``--report`` writes the page of what is there.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from benchmarks.jobs import Results, add_options, limits_of, run_cases
from benchmarks.subtraction.case_run import run_case
from benchmarks.subtraction.cases import cases
from benchmarks.subtraction.report import table
from loratools.files import write_text

RESULTS = Path(__file__).parents[1] / "results/subtraction"


def main() -> None:
    """Every case that is not done yet, then the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("runs/bench-subtraction"), help="LoRAs; bulky")
    parser.add_argument("--keep", type=Path, default=RESULTS, help="where finished cases go; small")
    parser.add_argument("--only", default="", help="a part of the cases' names")
    parser.add_argument("--quick", action="store_true", help="LoRAs of a few steps, two pictures: does everything run?")
    parser.add_argument("--report", action="store_true", help="only write the page of what is there")
    add_options(parser)
    args = parser.parse_args()
    names = [case.name for case in cases(quick=args.quick) if args.only in case.name]
    if not names:
        parser.error(f"no such case; there are {', '.join(case.name for case in cases(quick=args.quick))}")
    results = Results(RESULTS, args.keep)
    if not args.report:
        args.keep.mkdir(parents=True, exist_ok=True)
        run = partial(run_case, keep=args.keep, quick=args.quick)
        run_cases(names, run, args.work, results, limits_of(args))
    text = table(results.read(names))
    write_text(args.keep.with_suffix(".md"), text)
    print(text)


if __name__ == "__main__":
    main()
