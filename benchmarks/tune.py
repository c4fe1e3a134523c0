"""Does a search repair LoRAs that are overfit to one defect? Run as ``python -m benchmarks.tune``.

Thirty cases: LoRAs overfit to ONE defect each (hands, limbs, face, clothes, chaos) in styles that the base does not
know (ink, neon, watercolor), two seeds each; see :mod:`benchmarks.defect_loras`. Each is tuned by ``loratools.tune``
with the pocket's judge; with ``--marks`` by marks that the judge gives in a person's place instead
(:mod:`benchmarks.measuring.simulated`; quick tunes, with ``--method gradient`` down the gradient of what they taught),
with ``--narrow`` by the judge with weights of 0 to 1.4,
and with ``--pictures`` by what the judge says of drawn pictures, without its gradient.
The prompts and seeds of the search, of its own report and of this table are fixed in :mod:`benchmarks.repair.cases`,
and no two of the three share any. What is reported is measured here, on 64 pictures (16 prompts x 4 seeds) of the base,
the whole LoRA, the guide's rule, the best plain strength and the answer.

Cases run ``--jobs`` at once, on all GPUs in turn. Each that is done is ``NAME.json`` in ``--keep``, with ``NAME.webp``
(the tune's own sheet, halved) and ``NAME.tgz`` (the figures of all that the search drew, by which a search that was cut
off goes on). What lies there or in ``benchmarks/results/tune`` is not made again, so that a bare machine with nothing
but the checkout goes on; ``--minutes 8`` ends a call in time. Results of earlier searches lie in ``search-2`` there;
the page has them too. LoRAs are too large to be kept and are trained again.
``--report`` writes ``tune.md`` of what is there. ``--quick --cases ink-hands-1`` checks that it runs.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.jobs import Results, add_options, limits_of, run_cases
from benchmarks.repair.case_run import run_case
from benchmarks.repair.cases import BY_MARKS, BY_MARKS_GRADIENT, BY_PICTURES, NARROW, cases
from benchmarks.repair.report import line, report
from benchmarks.results_page import write

RESULTS = Path(__file__).parent / "results/tune"


def main() -> None:
    """Every case that is not done yet, then the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default="", help="STYLE-DEFECT-SEED, comma-separated; all thirty by default")
    parser.add_argument("--marks", action="store_true", help="led by marks, in place of the judge")
    parser.add_argument("--method", choices=("pictures", "gradient"), default="pictures", help="of --marks")
    parser.add_argument("--narrow", action="store_true", help="with weights of 0 to 1.4, in place of the usual range")
    parser.add_argument("--pictures", action="store_true", help="by a search without the judge's gradient instead")
    parser.add_argument("--work", type=Path, default=Path("runs/bench-tune"), help="LoRAs and pictures; bulky")
    parser.add_argument("--keep", type=Path, default=RESULTS, help="where finished cases go; small")
    parser.add_argument("--quick", action="store_true", help="quick tunes and 8 pictures: does it run?")
    parser.add_argument("--report", action="store_true", help="only write the Markdown from what is there")
    add_options(parser)
    args = parser.parse_args()
    every = [case.name for case in cases()]
    chosen = [name for name in args.cases.split(",") if name] or every  # in the order in which they are given
    if unknown := [name for name in chosen if name not in every]:
        parser.error(f"no such case: {', '.join(unknown)}; there are {', '.join(every)}")
    if args.method == "gradient" and not (args.marks or args.report):
        parser.error("--method goes with --marks; the judge's search is down the gradient unless --pictures is given")
    ends = (BY_MARKS, BY_MARKS_GRADIENT, NARROW, BY_PICTURES)
    marked, descended, narrow, pictured = ([name + end for name in chosen] for end in ends)
    results = Results(RESULTS, args.keep)
    if not args.report:
        args.keep.mkdir(parents=True, exist_ok=True)
        run = partial(run_case, keep=args.keep, quick=args.quick)
        down = args.method == "gradient"
        ways = [
            (args.marks, descended if down else marked),
            (args.narrow, narrow),
            (args.pictures, pictured),
            (True, chosen),
        ]
        names = next(own for wanted, own in ways if wanted)
        run_cases(names, run, args.work, results, limits_of(args))
    named = [*chosen, *pictured, *narrow, *marked, *descended]
    done = results.read(named)
    write(args.keep.with_suffix(".md"), report(done, _earlier(named)))
    for one in done.values():
        print(f"{one['case']}: {line(one)}", flush=True)


def _earlier(names: Sequence[str]) -> dict[str, dict[str, dict[str, Any]]]:
    """What searches measured that are no longer the product's: folder -> case -> result."""
    folders = sorted(RESULTS.glob("search-*"), reverse=True)
    return {folder.name: done for folder in folders if (done := Results(folder, folder).read(names))}


if __name__ == "__main__":
    main()
