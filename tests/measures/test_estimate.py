"""Means with their standard errors, against simulation and against formulas that are written out."""

from __future__ import annotations

import math

import numpy as np
import pytest

from loratools.errors import MeasureError
from loratools.measures.estimate import Estimate, estimate, paired_difference


def test_without_groups_it_is_the_usual_standard_error() -> None:
    values = np.random.default_rng(1).normal(3, 2, 50)
    own = estimate(values)
    assert own.mean == pytest.approx(values.mean())
    assert own.standard_error == pytest.approx(values.std(ddof=1) / math.sqrt(50))
    assert own.n == 50


@pytest.mark.parametrize("prompt_spread, seed_spread", [(1.0, 0.0), (0.0, 1.0), (1.0, 0.7), (0.0, 0.0)])
def test_the_standard_error_is_the_spread_of_means_over_new_prompts_and_seeds(
    prompt_spread: float, seed_spread: float
) -> None:
    """Crossed effects drawn anew again and again: the mean of the estimated variances is the means' own variance."""
    rng = np.random.default_rng(7)
    prompts, seeds = 8, 6
    labels = [(p, s) for p in range(prompts) for s in range(seeds)]
    means, variances = [], []
    for _ in range(400):
        by_prompt, by_seed = rng.normal(0, prompt_spread, prompts), rng.normal(0, seed_spread, seeds)
        values = [by_prompt[p] + by_seed[s] + rng.normal(0, 0.8) for p, s in labels]
        own = estimate(values, [p for p, _ in labels], [s for _, s in labels])
        means.append(own.mean)
        variances.append(own.standard_error**2)
    assert math.sqrt(np.mean(variances)) == pytest.approx(np.std(means), rel=0.2)


def test_one_grouping_is_the_bootstrap_over_its_groups() -> None:
    rng = np.random.default_rng(3)
    groups = np.repeat(np.arange(30), 4)
    values = rng.normal(0, 1, 30)[groups] + rng.normal(0, 0.3, 120)
    own = estimate(values, prompts=[str(group) for group in groups])
    drawn = [np.concatenate([values[groups == g] for g in rng.integers(0, 30, 30)]).mean() for _ in range(2000)]
    assert own.standard_error == pytest.approx(np.std(drawn), rel=0.1)
    assert own.standard_error > 1.5 * estimate(values).standard_error


def test_labels_that_all_differ_or_are_all_one_change_nothing() -> None:
    values = np.random.default_rng(5).normal(0, 1, 12)
    alone = estimate(values)
    assert estimate(values, prompts=["same"] * 12, seeds=range(12)) == alone


def test_a_difference_of_pairs_forgets_what_both_share() -> None:
    rng = np.random.default_rng(2)
    shared = rng.normal(0, 5, 40)
    before, after = shared + rng.normal(0, 0.1, 40), shared - 1 + rng.normal(0, 0.1, 40)
    own = paired_difference(after, before)
    assert own.mean == pytest.approx(-1, abs=0.1)
    assert own.standard_error < 0.05 < estimate(after).standard_error


def test_what_a_measure_cannot_tell_is_left_out_pair_by_pair() -> None:
    own = paired_difference([1.0, math.nan, 3.0], [0.5, 1.0, 2.5], ["a", "b", "c"])
    assert own == Estimate(0.5, 0.0, 2)
    assert estimate([math.nan, 2.0]).mean == 2.0
    assert math.isnan(estimate([2.0]).standard_error)


def test_nothing_to_take_a_mean_of_is_an_error() -> None:
    with pytest.raises(MeasureError, match="every picture's is NaN"):
        estimate([math.nan, math.nan])
    with pytest.raises(MeasureError, match="3 pictures cannot be paired with 2"):
        paired_difference([1.0, 2.0, 3.0], [1.0, 2.0])


def test_an_estimate_reads_as_a_person_writes_it() -> None:
    assert Estimate(0.351, 0.042, 16).text() == "0.35 ± 0.04"
    assert Estimate(0.351, math.nan, 1).text() == "0.35"
