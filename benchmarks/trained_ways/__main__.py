"""Do ways that train add to a search? Run as ``python -m benchmarks.trained_ways``.

LoRAs overfit to one defect each (:mod:`benchmarks.defect_loras`) are tuned, then followed by each chain of ``--ways``:
``picks``, ``defect-lora``, or several joined by ``+`` such as ``picks+search+picks``. What a way made is measured
whether it was taken or not, so that the table shows if the acceptance by held-out pictures was right. Resumable: a
finished chain is a file in ``--keep``.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from benchmarks.jobs import Results, add_options, limits_of, run_cases
from benchmarks.results_page import write
from benchmarks.trained_ways.case_run import run_case
from benchmarks.trained_ways.report import line, report

RESULTS = Path(__file__).parents[1] / "results/trained_ways"
STYLES, DEFECTS, SEEDS = ("ink", "neon", "watercolor"), ("hands", "limbs", "face", "clothes", "chaos"), (1, 2)


def main() -> None:
    """Every chain that is not done yet, then the page."""
    every = [f"{style}-{defect}-{seed}" for defect in DEFECTS for seed in SEEDS for style in STYLES]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default="", help="STYLE-DEFECT-SEED, comma-separated; all thirty by default")
    parser.add_argument("--ways", default="picks,defect-lora", help="chains, comma-separated")
    parser.add_argument("--work", type=Path, default=Path("runs/bench-ways"), help="LoRAs and pictures; bulky")
    parser.add_argument("--keep", type=Path, default=RESULTS, help="where finished chains go; small")
    parser.add_argument("--quick", action="store_true", help="quick tunes and ways; the table's pictures are as many")
    parser.add_argument("--report", action="store_true", help="only write the Markdown from what is there")
    add_options(parser)
    args = parser.parse_args()
    chosen = [name for name in args.cases.split(",") if name] or every
    if unknown := [name for name in chosen if name not in every]:
        parser.error(f"no such case: {', '.join(unknown)}; there are {', '.join(every)}")
    names = [f"{case}.{chain}" for chain in args.ways.split(",") for case in chosen]
    results = Results(RESULTS, args.keep)
    if not args.report:
        args.keep.mkdir(parents=True, exist_ok=True)
        run = partial(run_case, keep=args.keep, quick=args.quick)
        run_cases(names, run, args.work, results, limits_of(args))
    done = list(results.read(names).values())
    write(args.keep.with_suffix(".md"), report(done))
    for one in done:
        print(line(one), flush=True)


if __name__ == "__main__":
    main()
