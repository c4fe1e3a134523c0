"""What ``benchmarks.measure_data`` stored of a LoRA, and how figures are compared with the judge's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from loratools.pocket.judge import Judge

Values = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
SHOTS = 8  # prompts x seeds of each vector
MARKS = 20  # pictures of either side
SOUND, BROKEN = 0.4, 1.2  # grades of a defect
IN_STYLE, OUT_OF_STYLE = 0.8, 0.2  # probabilities of the LoRA's style
UP = ("mid.200", "up1.200", "up2.200", "up3.200")
ALL = ("down0.200", "down1.200", "down2.200", "down3.200", "mid.200", "up0.200", *UP[1:])
NEAR = ("down0.60", "down1.60", "up2.60", "up3.60")


@dataclass(frozen=True, eq=False)
class Lora:
    """What is stored of one LoRA; truth is the judge's."""

    name: str
    stored: Mapping[str, npt.NDArray[np.generic]]

    @property
    def style_known(self) -> bool:
        """Whether the base draws this style by itself."""
        return float(self.truth("test", "style")[:SHOTS].mean()) > IN_STYLE

    def truth(self, part: str, what: str) -> Values:
        """``defect`` grades, ``style`` probabilities or ``tags`` shares (n,)."""
        style, defect, _ = self.name.split("-")
        layout = Judge.load().layout
        if what == "tags":
            return self._values(f"{part}.tags")
        if what == "style":
            return self._values(f"{part}.styles")[:, list(layout.styles).index(style)]
        return self._values(f"{part}.faults")[:, list(layout.faults).index(defect)]

    def features(self, part: str, names: Sequence[str] = ALL) -> Values:
        """(n, d)"""
        return np.concatenate([self._values(f"{part}.{name}") for name in names], axis=1)

    def losses(self, part: str, prompt: str) -> Values:
        """(n, 4) of the base with the picture's ``own`` prompt, an ``other`` one or ``none``."""
        return self._values(f"{part}.loss.{prompt}")

    def marks(self, seed: int, in_style: bool) -> tuple[npt.NDArray[np.intp], Flags] | None:
        """Which pictures of the search are marked, and which of these are bad; None where there are too few."""
        rng = np.random.default_rng(seed)
        grade, style = self.truth("search", "defect"), self.truth("search", "style")
        own = np.arange(len(grade)) >= SHOTS
        good = np.flatnonzero(own & (grade < SOUND) & ((style > 0.5) | (not in_style)))
        bad = np.flatnonzero(own & (grade > 1.0))
        if min(len(good), len(bad)) < 6:
            return None
        good, bad = rng.permutation(good)[:MARKS], rng.permutation(bad)[:MARKS]
        return np.concatenate([bad, good]), np.arange(len(bad) + len(good)) < len(bad)

    def _values(self, name: str) -> Values:
        return np.asarray(self.stored[name], dtype=np.float64)


def within_shots(high: Flags, low: Flags, figures: Values) -> float:
    """The chance that of two pictures of one prompt and seed the one of ``high`` has the greater figure."""
    shots, wins, pairs = np.arange(len(figures)) % SHOTS, 0.0, 0
    for shot in range(SHOTS):
        one, two = figures[high & (shots == shot)], figures[low & (shots == shot)]
        wins += float((one[:, None] > two).sum() + 0.5 * (one[:, None] == two).sum())
        pairs += len(one) * len(two)
    return wins / pairs if pairs >= 15 else float("nan")


def rank_correlation(one: Values, two: Values) -> float:
    """Spearman's."""
    first, second = (np.argsort(np.argsort(own)).astype(np.float64) for own in (one, two))
    return float(np.corrcoef(first, second)[0, 1])


def by_vector(figures: Values, shots: int = SHOTS) -> Values:
    """The mean of each vector, without the base."""
    means: Values = figures.reshape(-1, shots).mean(1)[1:]
    return means


def table(heads: Sequence[str], rows: Sequence[Sequence[str | float]]) -> str:
    """Markdown; NaN is a dash."""
    cells = [[own if isinstance(own, str) else "-" if np.isnan(own) else f"{own:.2f}" for own in row] for row in rows]
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
