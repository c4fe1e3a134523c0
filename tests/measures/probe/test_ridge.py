"""Probes against their formula, and areas under curves against counting and resampling."""

from __future__ import annotations

from math import erf

import numpy as np
import pytest

from loratools.errors import MeasureError
from loratools.measures.probe.auc import auc
from loratools.measures.probe.ridge import _folds, _left_out, fit_probe


def kinds(first: int, second: int, d: int, apart: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Features of two kinds whose first five numbers differ."""
    kind = np.arange(first + second) < first
    x = np.random.default_rng(seed).normal(0, 1, (len(kind), d))
    return x + apart * np.where(kind, 1, -1)[:, None] * (np.arange(d) < 5), kind


def test_the_weights_are_those_of_a_weighted_ridge_regression() -> None:
    x, kind = kinds(10, 20, 8, 0.5, 1)
    probe = fit_probe(x, kind)
    z, y = (x - x.mean(0)) / x.std(0), np.where(kind, 1.0, -1.0)
    weights = 30 / 2 / np.where(kind, 10, 20)
    penalty = probe.penalty * np.trace(z @ z.T / 8) / 30
    centred = z - (z.T * weights).sum(1) / weights.sum()  # an offset that costs nothing is a centring by the weights
    direct = np.linalg.solve((centred.T * weights) @ z + 8 * penalty * np.eye(8), (z.T * weights) @ y)
    assert probe.weights == pytest.approx(direct)
    assert (weights * (probe(x) - y)).sum() == pytest.approx(0, abs=1e-9)


def test_what_is_left_out_tells_nothing_of_itself() -> None:
    """The figures of a prompt's pictures do not change with the kind that they are said to be of."""
    x, kind = kinds(12, 12, 50, 1.5, 2)
    group = np.arange(24) % 4
    prompts, out = [f"prompt {n}" for n in group], group == 2
    swapped = np.where(out, ~kind, kind)  # three of either kind still
    one, two = (_left_out(x @ x.T / 50, np.where(own, 1.0, -1.0), 0.1, _folds(prompts, own)) for own in (kind, swapped))
    assert one[out] == pytest.approx(two[out])
    assert one[~out] != pytest.approx(two[~out])


@pytest.mark.parametrize("first, second", [(20, 20), (10, 40)])
def test_kinds_are_told_apart_and_noise_is_not(first: int, second: int) -> None:
    told, noise = ([fit_probe(*kinds(first, second, 400, a, seed)).auc for seed in range(30)] for a in (1.3, 0.0))
    assert np.mean([each.value for each in told]) > 0.85 and all(each.clears_chance for each in told)
    assert np.mean([each.clears_chance for each in noise]) <= 0.15
    assert np.mean([each.value for each in noise]) == pytest.approx(0.5, abs=0.05)


def test_prompts_do_not_stand_in_for_the_kind() -> None:
    """Features that say the prompt alone, and prompts of mostly one kind: only whole prompts left out are honest."""
    rng, prompts = np.random.default_rng(6), np.repeat(np.arange(12), 4)
    alone, whole = [], []
    for _ in range(40):
        kind = rng.random(48) < np.where(prompts % 2 == 0, 0.75, 0.25)
        x = rng.normal(0, 1, (12, 300))[prompts] + rng.normal(0, 0.2, (48, 300))
        alone.append(fit_probe(x, kind).auc.value)
        whole.append(fit_probe(x, kind, groups=list(prompts)).auc.value)
    assert np.mean(alone) > 0.65 > 0.55 > np.mean(whole)


def test_a_feature_that_never_changes_counts_for_nothing() -> None:
    x, kind = kinds(10, 10, 6, 1.0, 4)
    x[:, 5] = 3.0
    probe = fit_probe(x, kind)
    assert probe.weights[5] == 0
    changed = x.copy()
    changed[:, 5] = 99.0
    assert probe(changed) == pytest.approx(probe(x))


def test_too_few_are_no_kind() -> None:
    x, kind = kinds(2, 10, 6, 1.0, 4)
    with pytest.raises(MeasureError, match="three pictures at least of either kind"):
        fit_probe(x, kind)


def test_the_area_is_the_share_of_pairs_in_order() -> None:
    bad, good = [3.0, 2.0, 2.0], [1.0, 2.0, 0.0, 5.0]
    counted = [(b > g) + 0.5 * (b == g) for b in bad for g in good]
    assert auc(bad, good).value == pytest.approx(np.mean(counted))
    assert auc(bad, good).value == pytest.approx(1 - auc(good, bad).value)


@pytest.mark.parametrize("apart, bad, good", [(0.0, 30, 20), (1.0, 20, 40), (2.0, 25, 25)])
def test_the_interval_holds_the_truth_as_often_as_it_says(apart: float, bad: int, good: int) -> None:
    rng = np.random.default_rng(5)
    truth = 0.5 * (1 + erf(apart / 2))  # Phi(apart / sqrt 2)
    own = [auc(rng.normal(apart, 1, bad), rng.normal(0, 1, good)) for _ in range(400)]
    assert 0.91 <= np.mean([each.low <= truth <= each.high for each in own]) <= 0.99
    x, y = rng.normal(apart, 1, bad), rng.normal(0, 1, good)
    drawn = [auc(rng.choice(x, bad), rng.choice(y, good)).value for _ in range(300)]
    one = auc(x, y)
    if one.low > 0.05 and one.high < 0.95:
        assert (one.high - one.low) / 3.92 == pytest.approx(np.std(drawn), rel=0.35)


def test_without_a_mistake_the_interval_still_knows_how_few_there_were() -> None:
    few, many = auc([2, 3, 4], [0, 1, 1]), auc(range(50, 100), range(50))
    assert few.value == many.value == 1.0
    assert not few.clears_chance and many.low > 0.9
    with pytest.raises(MeasureError, match="two good and two bad pictures at least"):
        auc([1.0], [0.0, 0.5])
    assert many.text() == "AUC 1.00 (0.94 to 1.00) over 50 bad and 50 good pictures"


def test_the_level_of_a_prompt_that_was_left_out_does_not_count() -> None:
    """Each prompt moves all figures: within prompts the kinds are told apart all the same."""
    rng = np.random.default_rng(8)
    prompts, kind = np.arange(32) // 8, np.arange(32) % 8 < np.array([6, 2, 5, 3])[np.arange(32) // 8]
    x = rng.normal(0, 0.3, (32, 40)) + rng.normal(0, 2, (4, 1))[prompts] + np.where(kind, 1, -1)[:, None]
    probe = fit_probe(x, kind, groups=list(prompts))
    plain = auc(probe.left_out[kind], probe.left_out[~kind])
    assert probe.by_group and probe.auc.value > 0.95 > plain.value


def test_prompts_of_one_kind_each_are_left_out_in_part() -> None:
    x, kind = kinds(12, 12, 30, 1.0, 3)
    groups = [f"{own} {n % 3}" for n, own in enumerate(kind)]
    probe = fit_probe(x, kind, groups=groups)
    assert not probe.by_group and probe.auc.value > 0.8
