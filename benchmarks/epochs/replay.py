"""``python -m benchmarks.epochs.replay [FOLDER...]``: other numbers and other rules on the figures that are stored.

Nothing is drawn. Each line is a rule over all cases in the folders (``benchmarks/results/epochs`` by default): in how
many its epoch is within one of the best, and its value within noise of it, and what it is worth less on average. The
number of seeds is that of the verdict's pictures: 2 or 4 (what 8 prompts get by default).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean

import numpy as np

from benchmarks.epochs.stored import Seen, read
from benchmarks.epochs.truth import Truth
from loratools.tune.epochs.decide import Evidence, Thresholds, decide
from loratools.tune.epochs.figures import Figure

SEEDS = (2, 4)
Cases = Mapping[str, tuple[Truth, Mapping[str, Seen]]]


@dataclass(frozen=True)
class Rule:
    """Numbers of the rule, and two things that it does not do.

    Attributes:
        neighbours: the share of each neighbouring epoch in an epoch's figures, picture by picture: what is trained a
            little longer is much the same.
        middle: take the middle of the epochs that are as good, not the earliest.
    """

    thresholds: Thresholds = field(default_factory=Thresholds)
    neighbours: float = 0.0
    middle: bool = False

    def choose(self, seen: Seen) -> int:
        """Index of the epoch that it takes."""
        own = seen.evidence if not self.neighbours else _smoothed(seen.evidence, self.neighbours)
        decision, numbers = decide(own, self.thresholds), list(own.numbers)
        good = sorted(n for n, reason in decision.reasons.items() if reason.why in ("recommended", "as good"))
        return numbers.index(good[len(good) // 2] if self.middle else decision.epoch)


RULES: Mapping[str, Rule] = {
    "as it is": Rule(),
    **{f"as good within {errors:g} errors": Rule(Thresholds(as_good=errors)) for errors in (0.0, 0.5, 2.0)},
    **{f"keeps {100 * keep:g} % of the style": Rule(Thresholds(keep=keep)) for keep in (0.8, 0.9, 0.98, 1.0)},
    **{f"least {least:g} of the spread": Rule(Thresholds(least=least)) for least in (0.0, 0.1, 0.2)},
    "the middle": Rule(middle=True),
    **{f"neighbours count {share:g}": Rule(neighbours=share) for share in (0.15, 0.25, 0.33)},
    "neighbours .25, the middle": Rule(neighbours=0.25, middle=True),
    "neighbours .25, 0 errors": Rule(Thresholds(as_good=0.0), neighbours=0.25),
    "neighbours .25, 0.5 errors": Rule(Thresholds(as_good=0.5), neighbours=0.25),
}


def _smoothed(evidence: Evidence, share: float) -> Evidence:
    def smooth(figure: Figure | None) -> Figure | None:
        if figure is None or len(figure.values) < 2:
            return figure
        rows = np.pad(figure.values, ((1, 1), (0, 0)), mode="edge")
        values = (1 - 2 * share) * rows[1:-1] + share * (rows[:-2] + rows[2:])
        return replace(figure, values=values)

    defects = tuple(own for figure in evidence.defects if (own := smooth(figure)) is not None)
    closeness, obedience = smooth(evidence.closeness), smooth(evidence.obedience)
    return replace(evidence, closeness=closeness, obedience=obedience, defects=defects)


def line(cases: Cases, kind: str, seeds: int, rule: Rule) -> str:
    """What one rule does over all cases."""
    some = frozenset(range(1, seeds + 1))
    chosen = [(truth, rule.choose(seen[kind].of_seeds(some))) for truth, seen in cases.values()]
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
        for name, rule in RULES.items():
            for seeds in SEEDS:
                print(f"{kind:6}  {name:28}  {seeds} seeds: {line(cases, kind, seeds, rule)}")


if __name__ == "__main__":
    main()
