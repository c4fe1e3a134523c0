"""Does a search repair LoRAs that are overfit to one defect? Run as ``python -m benchmarks.tune``.

Thirty cases: LoRAs overfit to ONE defect each (hands, limbs, face, clothes, chaos) in styles that the base does not
know (ink, neon, watercolor), two seeds each; see :mod:`benchmarks.defect_loras`. Each is tuned by ``loratools.tune``
with the pocket's judge, with ``--marks`` also by marks that the judge gives in a person's place
(:mod:`benchmarks.measuring.simulated`; quick tunes), and with ``--narrow`` by the judge with weights of 0 to 1.4.
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
from benchmarks.repair.cases import BY_MARKS, NARROW, cases
from benchmarks.repair.report import line, report
from benchmarks.results_page import write

RESULTS = Path(__file__).parent / "results/tune"


def main() -> None:
    """Every case that is not done yet, then the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default="", help="STYLE-DEFECT-SEED, comma-separated; all thirty by default")
    parser.add_argument("--marks", action="store_true", help="by marks as well, after all that are by the judge")
    parser.add_argument("--narrow", action="store_true", help="with weights of 0 to 1.4, in place of the usual range")
    parser.add_argument("--work", type=Path, default=Path("runs/bench-tune"), help="LoRAs and pictures; bulky")
    parser.add_argument("--keep", type=Path, default=RESULTS, help="where finished cases go; small")
    parser.add_argument("--quick", action="store_true", help="quick tunes and 8 pictures: does it run?")
    parser.add_argument("--report", action="store_true", help="only write the Markdown from what is there")
    add_options(parser)
    args = parser.parse_args()
    chosen = [case.name for case in cases() if not args.cases or case.name in args.cases.split(",")]
    if not chosen:
        parser.error(f"no such case; there are {', '.join(case.name for case in cases())}")
    marked, narrow = [name + BY_MARKS for name in chosen], [name + NARROW for name in chosen]
    results = Results(RESULTS, args.keep)
    if not args.report:
        args.keep.mkdir(parents=True, exist_ok=True)
        run = partial(run_case, keep=args.keep, quick=args.quick)
        names = narrow if args.narrow else [*chosen, *(marked if args.marks else [])]
        run_cases(names, run, args.work, results, limits_of(args))
    done = results.read([*chosen, *narrow, *marked])
    write(args.keep.with_suffix(".md"), report(done, _earlier([*chosen, *narrow, *marked])))
    for one in done.values():
        print(f"{one['case']}: {line(one)}", flush=True)


def _earlier(names: Sequence[str]) -> dict[str, dict[str, dict[str, Any]]]:
    """What searches measured that are no longer the product's: folder -> case -> result."""
    folders = sorted(RESULTS.glob("search-*"), reverse=True)
    return {folder.name: done for folder in folders if (done := Results(folder, folder).read(names))}


if __name__ == "__main__":
    main()
