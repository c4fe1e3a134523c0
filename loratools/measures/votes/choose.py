"""Which two vectors to show next, and when enough has been asked."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from loratools.measures.votes.preference import Choice, Preference, fit_preference, normal

Values = npt.NDArray[np.float64]
_SAMPLES = 256  # of the utilities of all candidates together
_CONTENDERS = 12  # candidates that may be the best, of which pairs are made
_KEPT, _LEADERS = 20, 4  # of the vectors shown: so many come again, and new ones start at so many
_SPREAD = 0.35  # of a block's weight around a vector's strength
_CHANGED, _STEPS = (0.12, 0.3, 0.6), (0.15, 0.4)  # shares of blocks, and by how much
_SURE = 1.96  # standard deviations: an interval of 95 %
_REGRET = 0.25  # of what the leader is above the whole LoRA: what going on may still win


@dataclass(frozen=True)
class Standing:
    """Where the choices have led.

    Attributes:
        leader: number of the candidate with the highest expected utility.
        advantage: expected utility of the leader minus the whole LoRA's, in units of the voter's unsureness.
        deviation: its standard deviation.
        regret: what the best candidate is expected to be above the leader.
    """

    leader: int
    advantage: float
    deviation: float
    regret: float

    @property
    def clears(self) -> bool:
        """Whether the leader is better than the whole LoRA beyond its 95 % interval."""
        return self.advantage - _SURE * self.deviation > 0

    @property
    def settled(self) -> bool:
        """Whether to stop: the leader clears, and what a better one would add is small beside what it has."""
        return self.clears and self.regret < _REGRET * self.advantage


def standing(preference: Preference, candidates: Values, whole: Values, seed: int = 0) -> Standing:
    """The leader among ``candidates`` (m, d), against the ``whole`` LoRA's vector (d,)."""
    expected = preference.mean(candidates)
    leader = int(expected.argmax())
    advantage, deviation = preference.difference(candidates[leader], whole)
    sampled = _samples(preference, candidates, seed)
    regret = float((sampled.max(1) - sampled[:, leader]).mean())
    return Standing(leader, advantage, deviation, regret)


def next_pair(
    preference: Preference, candidates: Values, asked: Collection[frozenset[int]] = (), seed: int = 0
) -> tuple[int, int]:
    """The two candidates whose comparison tells most, of those that may be the best.

    Contenders are the candidates that are best in most samples of the posterior. Of their pairs the one is taken whose
    outcome is expected to change most of what is believed (the mutual information of outcome and utilities: Houlsby et
    al. 2011). Pairs of ``asked``, as sets of two numbers, come again only when all others were asked.
    """
    sampled = _samples(preference, candidates, seed)
    best = np.bincount(sampled.argmax(1), minlength=len(candidates)).astype(np.float64)
    best += 1e-6 * (preference.mean(candidates) + np.sqrt(np.maximum(np.diag(preference.covariance(candidates)), 0)))
    contenders = [int(n) for n in np.argsort(-best)[: max(2, _CONTENDERS)]]
    pairs = [(a, b) for n, a in enumerate(contenders) for b in contenders[n + 1 :]]
    fresh = [pair for pair in pairs if frozenset(pair) not in asked] or pairs
    left, right = np.array(fresh).T
    chances = normal(sampled[:, left] - sampled[:, right])
    information = _entropy(chances.mean(0)) - _entropy(chances).mean(0)
    return fresh[int(information.argmax())]


def telling_pairs(
    preference: Preference, groups: Sequence[Sequence[int]], count: int, seed: int = 0
) -> list[tuple[int, int]]:
    """``count`` pairs of the preference's own vectors that tell most together, before any of them is answered.

    One is taken after another by the mutual information of its outcome and the utilities; each is then counted as a
    tie, by which what it would tell is not asked for again.

    Args:
        groups: numbers of vectors that may be compared with one another.
    """
    vectors, choices = preference.vectors, list[Choice](preference.choices)
    able = [(a, b) for own in groups for n, a in enumerate(own) for b in own[n + 1 :]]
    asked = {frozenset((choice.left, choice.right)) for choice in choices}
    chosen: list[tuple[int, int]] = []
    for turn in range(count):
        fresh = [pair for pair in able if frozenset(pair) not in asked]
        if not fresh:
            break
        sampled = _samples(preference, vectors, seed + turn)
        left, right = np.array(fresh).T
        chances = normal(sampled[:, left] - sampled[:, right])
        information = _entropy(chances.mean(0)) - _entropy(chances).mean(0)
        pair = fresh[int(information.argmax())]
        chosen.append(pair)
        asked.add(frozenset(pair))
        choices.append(Choice(*pair, 0.5))
        preference = fit_preference(vectors, choices, [preference.kernel])
    return chosen


def _samples(preference: Preference, candidates: Values, seed: int) -> Values:
    """(samples, m) of the candidates' utilities together."""
    covariance = preference.covariance(candidates)
    covariance += (1e-9 + 1e-6 * float(np.trace(covariance)) / len(covariance)) * np.eye(len(covariance))
    values, axes = np.linalg.eigh(covariance)
    draws = np.random.default_rng(seed).standard_normal((_SAMPLES, len(covariance)))
    sampled: Values = preference.mean(candidates) + draws @ (axes * np.sqrt(np.maximum(values, 0))).T
    return sampled


def _entropy(p: Values) -> Values:
    """Of a choice with two outcomes, in nats."""
    q = np.clip(p, 1e-12, 1 - 1e-12)
    entropy: Values = -q * np.log(q) - (1 - q) * np.log(1 - q)
    return entropy


def candidates(preference: Preference, shown: Values, *, seed: int = 0, count: int = 160, most: float = 1.4) -> Values:
    """Vectors (m, d) worth a choice: those shown that are liked best, the whole LoRA, and new ones.

    A third of the new ones is random, around any strength; the others change some blocks, few or many, a little or a
    lot, of the ones that are liked best so far.

    Args:
        shown: (n, d), at least one.
        count: of new ones.
        most: the highest weight of a block; the lowest is 0.
    """
    rng = np.random.default_rng(seed)
    liked = shown[np.argsort(-preference.mean(shown))]
    wide, near = count // 3, count - count // 3
    d = shown.shape[1]
    anywhere = rng.uniform(0.2, 1.2, (wide, 1)) + rng.normal(0, _SPREAD, (wide, d))
    changed = rng.random((near, d)) < rng.choice(_CHANGED, (near, 1))
    moves = rng.normal(0, 1, (near, d)) * rng.choice(_STEPS, (near, 1)) * changed
    moved = liked[rng.integers(min(_LEADERS, len(liked)), size=near)] + moves
    every = np.concatenate([liked[:_KEPT], np.ones((1, d)), np.clip(np.concatenate([anywhere, moved]), 0, most)])
    different: Values = np.unique(every, axis=0)
    return different
