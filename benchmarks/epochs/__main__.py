"""``python -m benchmarks.epochs --work DIR [--keep DIR] [--jobs N] [--minutes M]``: the verdict against the truth.

Twelve runs are trained on the pocket base, ``epochs --base`` recommends an epoch of each (with the judge, without, and
by ``--twice`` on twice the pictures), and the judge looks at 200 other pictures of every epoch. Cases run ``--jobs`` at
once, on all GPUs in turn. Each that is done is ``NAME.json`` (figures), ``NAME.npz`` (those of every picture) and
``NAME.webp`` (the sheet) in ``--keep``; what lies there or in ``benchmarks/results/epochs`` is not made again, so that
a bare machine with nothing but the checkout goes on. ``--report`` writes ``benchmarks/results/epochs.md`` of what is
there.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from benchmarks.epochs.case_run import cases, run_case
from benchmarks.epochs.report import table
from benchmarks.jobs import Results, add_options, limits_of, run_cases
from loratools.files import write_text

RESULTS = Path(__file__).parents[1] / "results/epochs"


def main() -> None:
    """Every case that is not done yet, then the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("runs/bench-epochs"), help="runs and pictures; bulky")
    parser.add_argument("--keep", type=Path, default=RESULTS, help="where finished cases go; small")
    parser.add_argument("--only", default="", help="a part of the cases' names")
    parser.add_argument("--quick", action="store_true", help="three epochs of eight drawings: does everything run?")
    parser.add_argument("--twice", action="store_true", help="a verdict on twice the pictures as well")
    parser.add_argument("--report", action="store_true", help="only write the page of what is there")
    add_options(parser)
    args = parser.parse_args()
    names = [case.name for case in cases(quick=args.quick) if args.only in case.name]
    if not names:
        parser.error(f"no such case; there are {', '.join(case.name for case in cases(quick=args.quick))}")
    results = Results(RESULTS, args.keep)
    if not args.report:
        args.keep.mkdir(parents=True, exist_ok=True)
        run = partial(run_case, keep=args.keep, quick=args.quick, twice=args.twice)
        run_cases(names, run, args.work, results, limits_of(args))
    done = results.read(names)
    write_text(args.keep.with_suffix(".md"), table(done))
    for name, case in done.items():
        print(f"{name}: best {case['best']}; {case['sentence']}; {case['seconds']}", flush=True)


if __name__ == "__main__":
    main()
