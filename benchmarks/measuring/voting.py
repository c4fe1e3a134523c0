"""A vote instead of a measure, with the judge as the voter: how many choices until a defect is halved?

``benchmarks.measure_data`` stores what the judge reads in three pictures each of 500 random vectors of a LoRA. A model
of these readings over vectors (a Gaussian process with a length for each block; its share of the variance of vectors
that were left out is reported) answers for every vector that is asked about. The voter sees three pictures of either
vector side by side, dislikes the defect and, three times as much, a loss of style beyond 5 % of the whole LoRA's, and
is as unsure as an eighth of the whole defect: a difference of that size is seen in five of six choices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from loratools.measures.votes.choose import candidates, next_pair
from loratools.measures.votes.preference import Choice, fit_preference, normal
from loratools.pocket.judge import Judge

Values = npt.NDArray[np.float64]
PROMPTS, SEEDS = 3, 4
CHOICES = (20, 40, 60)
_UNSURE = 0.125  # of the whole LoRA's defect
_KEEP, _STYLE = 0.95, 3.0
_HALF, _KEPT = 0.5, 0.9  # of the whole LoRA's


class Surface:
    """A figure over vectors, from its values (n,) at vectors (n, d)."""

    def __init__(self, vectors: Values, values: Values) -> None:
        self._vectors, self._mean, self._deviation = vectors, values.mean(), values.std()
        y = (values - self._mean) / self._deviation
        lengths, noise = np.full(vectors.shape[1], 1.2), 0.2
        best = self._cost(lengths, noise, y)
        for _ in range(2):
            for block in range(len(lengths)):
                for factor in (0.5, 2.0):
                    tried = lengths.copy()
                    tried[block] *= factor
                    if (cost := self._cost(tried, noise, y)) < best:
                        best, lengths = cost, tried
            for factor in (0.4, 2.5):
                if (cost := self._cost(lengths, noise * factor, y)) < best:
                    best, noise = cost, noise * factor
        self._lengths = lengths
        inverse = np.linalg.inv(self._kernel(vectors, lengths) + noise * np.eye(len(y)))
        self._dual = inverse @ y
        self.explained = float(1 - ((self._dual / np.diag(inverse)) ** 2).mean())  # of what was left out

    def __call__(self, vectors: Values) -> Values:
        """(m,)"""
        values: Values = self._mean + self._deviation * self._kernel(vectors, self._lengths) @ self._dual
        return values

    def _kernel(self, vectors: Values, lengths: Values) -> Values:
        one, two = vectors / lengths, self._vectors / lengths
        apart = np.maximum((one**2).sum(1)[:, None] + (two**2).sum(1) - 2 * one @ two.T, 0)
        kernel: Values = 0.5 * np.exp(-0.5 * apart) + 0.5 * one @ two.T / one.shape[1]
        return kernel

    def _cost(self, lengths: Values, noise: float, y: Values) -> float:
        """Minus the log evidence."""
        factor = np.linalg.cholesky(self._kernel(self._vectors, lengths) + noise * np.eye(len(y)))
        solved = np.linalg.solve(factor, y)
        return float(0.5 * solved @ solved + np.log(np.diag(factor)).sum())


@dataclass(frozen=True, eq=False)
class Voter:
    """Who chooses between two vectors' pictures of one LoRA."""

    defect: Surface
    style: Surface

    def shares(self, vectors: Values) -> tuple[Values, Values]:
        """Defect and style (m,), as shares of the whole LoRA's."""
        whole = np.ones((1, vectors.shape[1]))
        defect = np.maximum(self.defect(vectors), 0) / self.defect(whole)
        return defect, np.clip(self.style(vectors), 0, 1) / self.style(whole)

    def chance(self, left: Values, right: Values) -> float:
        """That the left one wins."""
        defect, style = self.shares(np.stack([left, right]))
        cost = defect + _STYLE * np.maximum(0, _KEEP - style)
        return float(normal(np.array([(cost[1] - cost[0]) / _UNSURE]))[0])


def vote(voter: Voter, seed: int, dimensions: int) -> list[tuple[float, float]]:
    """Shares of defect and style of the leader after each number of :data:`CHOICES`."""
    rng = np.random.default_rng(seed)
    shown, choices, after = [np.ones(dimensions)], list[Choice](), list[tuple[float, float]]()
    preference = fit_preference(np.array(shown), choices)
    for count in range(1, max(CHOICES) + 1):
        offered = candidates(preference, np.array(shown), seed=int(rng.integers(2**31)))
        pair = [offered[n] for n in next_pair(preference, offered, seed=int(rng.integers(2**31)))]
        numbers = [_number(shown, vector) for vector in pair]
        choices.append(Choice(numbers[0], numbers[1], float(rng.random() < voter.chance(*pair))))
        preference = fit_preference(np.array(shown), choices)
        if count in CHOICES:
            leader = np.array(shown)[[int(preference.mean(np.array(shown)).argmax())]]
            defect, style = voter.shares(leader)
            after.append((float(defect[0]), float(style[0])))
    return after


def _number(shown: list[Values], vector: Values) -> int:
    """Where it stands among those that were shown, after putting it there."""
    known = next((n for n, own in enumerate(shown) if np.array_equal(own, vector)), None)
    if known is None:
        shown.append(vector)
        return len(shown) - 1
    return known


def votes_report(loras: Sequence[tuple[str, Mapping[str, npt.NDArray[np.generic]]]]) -> str:
    """The section of the page."""
    layout, rows, halved = Judge.load().layout, [], []
    for name, stored in loras:
        style, defect, _ = name.split("-")
        vectors = np.asarray(stored["votes.vectors"], dtype=np.float64)[1:]
        grade = np.asarray(stored["votes.faults"], np.float64)[:, list(layout.faults).index(defect)]
        look = np.asarray(stored["votes.styles"], np.float64)[:, list(layout.styles).index(style)]
        surfaces = [Surface(vectors, own.reshape(-1, PROMPTS).mean(1)[1:]) for own in (grade, look)]
        runs = np.array([vote(Voter(*surfaces), seed, vectors.shape[1]) for seed in range(SEEDS)])
        good = (runs[..., 0] <= _HALF) & (runs[..., 1] >= _KEPT)
        halved.append(good)
        cells = [f"{own.explained:.2f}" for own in surfaces]
        for n in range(len(CHOICES)):
            low, mid, high = np.quantile(runs[:, n, 0], (0, 0.5, 1))
            cells.append(f"{mid:.2f} ({low:.2f} to {high:.2f}), {np.median(runs[:, n, 1]):.2f}, {good[:, n].sum()}")
        rows.append(f"| {name} | {' | '.join(cells)} |")
    total = np.concatenate(halved).sum(0)
    heads = " | ".join(f"after {count} choices" for count in CHOICES)
    reached = ", ".join(f"{own} after {count}" for own, count in zip(total, CHOICES, strict=True))
    return f"""## A model of vectors alone, simulated

What was tried before choices taught a probe of pictures, and needs no look at them: a Gaussian process over vectors. A
voter (the judge's readings, `benchmarks/measuring/voting.py`) chooses of two vectors, {PROMPTS} pictures of either
side by side. Cells: the leader's share of the whole LoRA's defect (median, lowest and highest of {SEEDS} runs), its
share of the style (median), and in how many runs of {SEEDS} the defect is halved with {_KEPT:.0%} of the style kept.
"Explained" is how well the simulation knows vectors that were left out.

| LoRA | defect explained | style explained | {heads} |
| --- | ---: | ---: | {" | ".join("---:" for _ in CHOICES)} |
{chr(10).join(rows)}

Halved with the style kept, of {len(loras) * SEEDS} runs: {reached}. The goal, half of the defect in at most 60
choices, is reached where few blocks hold it; where a repair takes several blocks at once, 60 choices take away about
0.4 to 0.5 of the defect with the style kept, and more choices are needed. Tried beside it and not better by more than
runs differ: the leader against the vector that may most be better, Thompson sampling, and a length for each block in
the kernel."""
