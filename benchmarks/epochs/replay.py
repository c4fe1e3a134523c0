"""``python -m benchmarks.epochs.replay [FOLDER...]``: other numbers and other rules on the figures that are stored.

Nothing is drawn. Each line is a rule over all cases in the folders (``benchmarks/results/epochs`` by default): in how
many its epoch is within one of the best, and its value within noise of it, and what it is worth less on average. The
number of seeds is that of the verdict's pictures: 2, 4 (what 8 prompts get by default) and 8.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean

from benchmarks.epochs.stored import Seen, read
from benchmarks.epochs.truth import Truth
from loratools.tune.epochs.decide import Thresholds, decide

SEEDS = (2, 4, 8)
RULES: Mapping[str, Thresholds] = {
    "as it is": Thresholds(),
    **{f"as good within {errors:g} errors": Thresholds(as_good=errors) for errors in (0.0, 0.5, 2.0)},
    **{f"keeps {100 * keep:g} % of the style": Thresholds(keep=keep) for keep in (0.8, 0.9, 0.98, 1.0)},
}
Cases = Mapping[str, tuple[Truth, Mapping[str, Seen]]]


def line(cases: Cases, kind: str, seeds: int, thresholds: Thresholds) -> str:
    """What one rule does over all cases."""
    chosen = []
    for truth, seen in cases.values():
        own = seen[kind].of_seeds(frozenset(range(1, seeds + 1)))
        numbers = list(own.evidence.numbers)
        chosen.append((truth, numbers.index(decide(own.evidence, thresholds).epoch)))
    near = sum(abs(index - truth.best) <= 1 for truth, index in chosen)
    noise = sum(truth.within_noise(index) for truth, index in chosen)
    good = sum(truth.from_as_good(index) <= 1 for truth, index in chosen)
    lost = fmean(truth.behind(index).mean for truth, index in chosen)
    return f"{near:2} within one, {good:2} of one as good, {noise:2} within noise, {lost:.4f} less"


def main() -> None:
    """Print a line for each rule, kind of verdict and number of seeds."""
    folders = [Path(name) for name in sys.argv[1:]] or [Path(__file__).parents[1] / "results/epochs"]
    cases = {path.stem: read(path) for folder in folders for path in sorted(folder.glob("*.npz"))}
    print(f"{len(cases)} cases")
    for kind in ("judged", "blind"):
        for name, thresholds in RULES.items():
            for seeds in SEEDS:
                print(f"{kind:6}  {name:28}  {seeds} seeds: {line(cases, kind, seeds, thresholds)}")


if __name__ == "__main__":
    main()
