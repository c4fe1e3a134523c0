import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from loratools.adapter.algebra.lowrank import Dense, LowRank
from loratools.adapter.algebra.rank import (
    Energy,
    Error,
    Exact,
    Fixed,
    RankRule,
    Size,
    allocate,
    choose,
    parse_rank,
    spectrum,
)
from loratools.errors import RankError

SHAPES = st.sampled_from([(12, 9), (9, 12), (5, 3, 3, 3), (6, 20)])


def decaying(shape: tuple[int, ...], rank: int, seed: int) -> LowRank:
    generator = torch.Generator().manual_seed(seed)
    up = torch.randn(shape[0], rank, generator=generator) * 0.5 ** torch.arange(rank)
    return LowRank(up, torch.randn(rank, math.prod(shape[1:]), generator=generator), shape)


def compress(delta: LowRank, rule: RankRule) -> tuple[LowRank, float]:
    """The best approximation that ``rule`` allows, and its relative Frobenius error as the spectrum says it."""
    whole = spectrum(delta)
    rank = choose(whole.s, rule, max(delta.shape[0], math.prod(delta.shape[1:])))
    total = whole.lost2(0)
    return whole.truncated(rank), math.sqrt(whole.lost2(rank) / total) if total else 0.0


@given(
    SHAPES,
    st.integers(1, 14),
    st.integers(0, 99),
    st.sampled_from([Exact(), Fixed(1), Fixed(3), Error(0.1), Error(0.5), Energy(0.9), Energy(0.999)]),
)
@settings(max_examples=80, deadline=None)
def test_compression_is_the_dense_svds_truncation(shape: tuple[int, ...], rank: int, seed: int, rule: RankRule) -> None:
    delta = decaying(shape, rank, seed)
    matrix = delta.dense().flatten(1)
    values = torch.linalg.svdvals(matrix)
    compressed, error = compress(delta, rule)
    lost = float((compressed.dense().flatten(1) - matrix).norm() / matrix.norm())
    best = float((values[compressed.rank :] ** 2).sum().sqrt() / matrix.norm())
    assert lost == pytest.approx(best, abs=3e-7) and error == pytest.approx(best, abs=1e-12)
    smaller = float((values[compressed.rank - 1 :] ** 2).sum().sqrt() / matrix.norm())
    match rule:
        case Exact():
            assert lost < 3e-7
        case Fixed(wanted):
            assert compressed.rank == min(wanted, *matrix.shape, rank)
        case Error(relative):
            assert error <= relative < smaller
        case Energy(keep):
            assert 1 - error**2 >= keep - 1e-12 and 1 - smaller**2 < keep + 1e-12


def test_exact_finds_the_true_rank_and_zero_keeps_one() -> None:
    low = decaying((12, 9), 2, 0)
    doubled = LowRank(torch.cat([low.up, low.up], 1), torch.cat([low.down, low.down]), (12, 9))
    assert compress(doubled, Exact())[0].rank == 2
    zero = LowRank(torch.zeros(4, 3), torch.zeros(3, 5), (4, 5))
    assert compress(zero, Error(0.01))[0].rank == 1 and compress(zero, Fixed(2))[1] == 0


def test_the_root_of_the_singular_values_stands_on_both_sides() -> None:
    factors = compress(decaying((12, 9), 4, 0), Exact())[0]
    assert torch.allclose(factors.up.norm(dim=0), factors.down.norm(dim=1), rtol=1e-5)


def test_full_differences_have_a_spectrum_too() -> None:
    matrix = torch.randn(5, 2, 3, 3)
    assert torch.allclose(spectrum(Dense(matrix)).truncated(5).dense(torch.float32), matrix, atol=1e-5)


def test_ranks_that_cannot_be_are_named() -> None:
    delta = decaying((4, 5), 2, 0)
    for rule, message in ((Fixed(0), "smallest rank is 1"), (Size(100), "whole file")):
        with pytest.raises(RankError, match=message):
            compress(delta, rule)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("exact", Exact()),
        ("32", Fixed(32)),
        ("rank=8", Fixed(8)),
        ("error=0.01", Error(0.01)),
        ("ERROR=1e-3", Error(1e-3)),
        ("energy=0.999", Energy(0.999)),
        ("size=36MiB", Size(36 * 2**20)),
        ("size=1.5GB", Size(1_500_000_000)),
        ("size=10mb", Size(10_000_000)),
        ("size=2M", Size(2_000_000)),
        ("size=512", Size(512)),
    ],
)
def test_rules_are_read(text: str, rule: RankRule) -> None:
    assert parse_rank(text) == rule and parse_rank(rule.text()) == rule


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "-3",
        "3.5",
        "error=2",
        "error=",
        "energy=0",
        "energy=1.1",
        "size=0",
        "size=10XB",
        "size=MiB",
        "full",
        "error=nan",
        "9" * 30,
    ],
)
def test_rules_that_make_no_sense_are_named(text: str) -> None:
    with pytest.raises(RankError):
        parse_rank(text)


@given(
    st.lists(st.tuples(st.integers(1, 6), st.integers(1, 20), st.integers(0, 999)), min_size=1, max_size=6),
    st.integers(0, 300),
)
@settings(max_examples=60, deadline=None)
def test_the_budget_is_kept_and_spent_where_values_are_largest(modules: list[tuple[int, int, int]], extra: int) -> None:
    values, costs = {}, {}
    for index, (count, cost, seed) in enumerate(modules):
        generator = torch.Generator().manual_seed(seed)
        values[f"m{index}"] = torch.rand(count, generator=generator).double().sort(descending=True).values
        costs[f"m{index}"] = cost
    budget = sum(costs.values()) + extra
    ranks = allocate(values, costs, budget)
    spent = sum(costs[name] * rank for name, rank in ranks.items())
    assert spent <= budget and all(1 <= rank <= len(values[name]) for name, rank in ranks.items())
    kept = [float(values[n][r - 1] ** 2 / costs[n]) for n, r in ranks.items() if r > 1]
    left = [(float(values[n][r] ** 2 / costs[n]), costs[n]) for n, r in ranks.items() if r < len(values[n])]
    if kept and left:
        assert max(gain for gain, _ in left) <= min(kept) + 1e-12
    if left:
        assert spent + max(left)[1] > budget
    with pytest.raises(RankError, match="too small"):
        allocate(values, costs, sum(costs.values()) - 1)
