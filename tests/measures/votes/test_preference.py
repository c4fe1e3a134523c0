"""The model of what a voter likes, against sampling, its own derivatives, and voters whose taste is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from loratools.errors import MeasureError
from loratools.measures.votes.choose import candidates, next_pair, standing, telling_pairs
from loratools.measures.votes.preference import (
    FEATURE_KERNELS,
    Choice,
    Kernel,
    Preference,
    _laplace,
    _Likelihood,
    fit_preference,
    log_normal,
    normal,
)

KERNEL = Kernel(6.0, 1.0, 0.5, 0.05)


def vectors(count: int, d: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 1.3, (count, d))


def random_choices(count: int, among: int, seed: int = 0) -> list[Choice]:
    rng = np.random.default_rng(seed)
    return [
        Choice(*map(int, rng.choice(among, 2, replace=False)), float(rng.choice([0, 0.5, 1]))) for _ in range(count)
    ]


def test_the_normal_distribution_is_right_far_out() -> None:
    assert normal(np.array([0.0, 1.0]))[1] == pytest.approx(0.5 * (1 + math.erf(1 / math.sqrt(2))))
    assert log_normal(np.array([-40.0]))[0] == pytest.approx(-804.608442, rel=1e-6)


def test_slope_and_curvature_are_the_likelihoods_own() -> None:
    likelihood, f, h = _Likelihood(random_choices(9, 5), 5), np.random.default_rng(1).normal(0, 1, 5), 1e-5
    axes = np.eye(5) * h
    slope = [(likelihood.log(f + e) - likelihood.log(f - e)) / (2 * h) for e in axes]
    assert likelihood.gradient(f) == pytest.approx(slope, abs=1e-6)
    curvature = [-(likelihood.gradient(f + e) - likelihood.gradient(f - e)) / (2 * h) for e in axes]
    assert np.allclose(likelihood.curvature(f), curvature, atol=1e-4)


def test_the_posterior_is_the_one_that_sampling_finds() -> None:
    """Importance sampling from a prior that is narrow enough for Laplace's approximation to be near."""
    points, choices, kernel = vectors(4), [Choice(0, 1, 1.0), Choice(2, 1, 1.0), Choice(0, 3, 0.5)], Kernel(1, 0.3)
    posterior = _laplace(points, choices, kernel)[1]
    drawn = np.random.default_rng(2).multivariate_normal(
        np.zeros(4), kernel.between(points, points) + kernel.own * np.eye(4), 20_000
    )
    weights = np.exp([_Likelihood(choices, 4).log(f) for f in drawn])
    mean = (weights[:, None] * drawn).sum(0) / weights.sum()
    spread = np.sqrt((weights[:, None] * (drawn - mean) ** 2).sum(0) / weights.sum())
    assert posterior.utilities == pytest.approx(mean, abs=0.06)
    own = np.sqrt(np.diag(posterior.covariance(points)) + kernel.own)
    assert own == pytest.approx(spread, rel=0.1)


def test_without_choices_it_is_the_prior() -> None:
    points = vectors(5)
    nothing = fit_preference(points, [], [KERNEL])
    assert np.allclose(nothing.mean(points), 0)
    assert np.allclose(nothing.covariance(points), KERNEL.between(points, points))


def test_what_wins_is_liked_and_unsureness_shrinks() -> None:
    points = vectors(6)
    before, after = (fit_preference(points, [Choice(0, 1, 1.0)] * n, [KERNEL]) for n in (1, 4))
    assert 0 < before.difference(points[0], points[1])[0] < after.difference(points[0], points[1])[0]
    assert after.difference(points[0], points[1])[1] < nothing_known(points)
    tied = fit_preference(points, [Choice(0, 1, 0.5)] * 4, [KERNEL])
    assert tied.difference(points[0], points[1])[0] == pytest.approx(0, abs=1e-6)
    assert after.difference(points[1], points[0])[0] == pytest.approx(-after.difference(points[0], points[1])[0])


def nothing_known(points: np.ndarray) -> float:
    return fit_preference(points, [], [KERNEL]).difference(points[0], points[1])[1]


def voter(weights: np.ndarray, sharp: float, seed: int) -> tuple[np.ndarray, Preference, list[int]]:
    """A voter whose liking is linear in a vector's numbers, asked 40 pairs; also the leaders' places on the way."""
    rng, points = np.random.default_rng(seed), vectors(60, len(weights), seed)
    points[0] = 1.0
    liking = sharp * (points @ weights)
    choices: list[Choice] = []
    places = []
    for number in range(40):
        preference = fit_preference(points, choices)
        left, right = next_pair(preference, points, {frozenset((c.left, c.right)) for c in choices}, seed=number)
        chance = float(normal(np.array([liking[left] - liking[right]]))[0])
        choices.append(Choice(left, right, float(rng.random() < chance)))
        places.append(int((liking > liking[standing(preference, points, points[0]).leader]).sum()))
    return liking, fit_preference(points, choices), places


def test_active_choices_find_what_a_voter_likes() -> None:
    """17 numbers of which three matter: after 40 choices the leader is among the best few of 60, and known to be."""
    weights = np.zeros(17)
    weights[[10, 11, 12]] = (-3.0, -2.0, 1.0)
    for seed in (1, 2):
        liking, preference, _ = voter(weights, 1.5, seed)
        points = preference.vectors
        end = standing(preference, points, points[0])
        assert (liking > liking[end.leader]).sum() < 6
        assert end.clears and end.advantage > 1
        assert np.corrcoef(preference.mean(points), liking)[0, 1] > 0.8


def test_a_voter_who_guesses_settles_nothing() -> None:
    settled = [
        standing(own, own.vectors, own.vectors[0]).settled
        for own in (voter(np.zeros(17), 1.0, s)[1] for s in (1, 2, 3))
    ]
    assert sum(settled) <= 1


def test_pairs_that_were_asked_come_last() -> None:
    points = vectors(3)
    preference = fit_preference(points, [], [KERNEL])
    asked: set[frozenset[int]] = set()
    for _ in range(3):
        pair = frozenset(next_pair(preference, points, asked))
        assert pair not in asked and len(pair) == 2
        asked.add(pair)
    assert frozenset(next_pair(preference, points, asked)) in asked


@pytest.mark.parametrize("choice", [Choice(0, 0, 1.0), Choice(0, 3, 1.0), Choice(-1, 1, 0.0)])
def test_a_choice_that_names_no_two_vectors_is_one_sentence(choice: Choice) -> None:
    with pytest.raises(MeasureError, match="is none among 3 vectors"):
        fit_preference(vectors(3), [choice])
    with pytest.raises(MeasureError, match=r"won 2; it should be 1, 0\.5 for a tie, or 0"):
        fit_preference(vectors(3), [Choice(0, 1, 2)])


def test_candidates_are_the_liked_ones_the_whole_and_new_ones_within_bounds() -> None:
    shown = vectors(30, 17)
    choices = [Choice(0, n, 1.0) for n in range(1, 12)]
    preference = fit_preference(shown, choices, [KERNEL])
    offered = candidates(preference, shown, seed=3)
    assert offered.min() >= 0 and offered.max() <= 1.4 and len(offered) > 150
    assert len(np.unique(offered, axis=0)) == len(offered)

    def within(vector: np.ndarray) -> bool:
        return bool((np.abs(offered - vector).max(1) == 0).any())

    assert within(shown[0]) and within(np.ones(17))
    near = np.abs(offered - shown[0]) > 0
    assert ((near.sum(1) > 0) & (near.sum(1) <= 6)).sum() > 3  # some change a few blocks of the one that is liked best
    assert np.array_equal(offered, candidates(preference, shown, seed=3))
    assert not np.array_equal(offered, candidates(preference, shown, seed=4))


def test_pairs_that_tell_most_are_new_ones_of_one_group_and_never_twice() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(12, 30))
    features[6:8] = features[5]  # three sides that look alike: comparing these tells nothing
    choices = [Choice(0, 1, 1.0), Choice(2, 3, 0.0)]
    preference = fit_preference(features, choices, FEATURE_KERNELS)
    groups = [range(6), range(5, 12)]
    pairs = telling_pairs(preference, groups, 10)
    assert len(pairs) == 10 == len({frozenset(pair) for pair in pairs})
    assert not {frozenset(pair) for pair in pairs} & {frozenset((0, 1)), frozenset((2, 3))}
    assert all(any(set(pair) <= set(own) for own in groups) for pair in pairs)
    assert not any(set(pair) <= {5, 6, 7} for pair in pairs)
    assert len(telling_pairs(preference, [[0, 1], [2, 3, 4]], 10)) == 2, "no more than there are"
