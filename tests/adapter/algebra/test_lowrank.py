import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from loratools.adapter.algebra.lowrank import Delta, Dense, LowRank, Vector, balance, concatenate, finite, gram, inner
from loratools.errors import ShapeError

SHAPES = st.sampled_from([(5, 7), (8, 3), (4, 3, 3, 3), (6, 2, 1, 1)])


def low_rank(shape: tuple[int, ...], rank: int, seed: int, scale: float = 1.0) -> LowRank:
    generator = torch.Generator().manual_seed(seed)
    up = scale * torch.randn(shape[0], rank, generator=generator)
    return LowRank(up, torch.randn(rank, math.prod(shape[1:]), generator=generator), shape)


@st.composite
def sums(draw: st.DrawFn) -> list[tuple[float, Delta]]:
    shape = draw(SHAPES)
    terms: list[tuple[float, Delta]] = []
    for index in range(draw(st.integers(1, 4))):
        weight = draw(st.floats(-2, 2, width=32))
        kind = draw(st.sampled_from(["low", "low", "low", "dense"]))
        low = low_rank(shape, draw(st.integers(1, 5)), index + 10 * draw(st.integers(0, 50)))
        terms.append((weight, low if kind == "low" else Dense(low.dense(torch.float32))))
    return terms


@given(sums())
@settings(max_examples=60, deadline=None)
def test_concatenation_is_the_weighted_sum(terms: list[tuple[float, Delta]]) -> None:
    asked = sum((weight * delta.dense() for weight, delta in terms), torch.zeros(terms[0][1].shape).double())
    size = sum(abs(weight) * delta.norm() for weight, delta in terms)
    total = concatenate(terms)
    assert float((total.dense() - asked).norm()) <= 1e-6 * size + 1e-12
    assert isinstance(total, LowRank) == all(isinstance(d, LowRank) for w, d in terms if w != 0) or size == 0


@given(SHAPES, st.integers(1, 5), st.integers(1, 5))
@settings(max_examples=30, deadline=None)
def test_inner_products_equal_the_dense_ones(shape: tuple[int, ...], r1: int, r2: int) -> None:
    a, b = low_rank(shape, r1, 1), low_rank(shape, r2, 2)
    dense = float((a.dense() * b.dense()).sum())
    for x in (a, Dense(a.dense())):
        for y in (b, Dense(b.dense())):
            assert inner(x, y) == pytest.approx(dense, rel=1e-12, abs=1e-12)
    assert a.norm() == pytest.approx(float(a.dense().norm()), rel=1e-12)


@given(st.integers(-40, 30), st.integers(-40, 30), st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_balancing_changes_no_bit_of_the_matrix(up: int, down: int, rank: int) -> None:
    given_one = low_rank((6, 9), rank, 3)
    skewed = LowRank(given_one.up * 2.0**up, given_one.down * 2.0**down, (6, 9))
    moved = balance(skewed)
    assert torch.equal(moved.dense(), skewed.dense())
    assert torch.equal(balance(moved).up, moved.up)


def test_balancing_saves_small_factors_from_fp16() -> None:
    skewed = low_rank((20, 30), 3, 0, scale=1e-7)
    assert float((skewed.up.half().float() - skewed.up).norm() / skewed.up.norm()) > 0.05
    moved = balance(skewed)
    stored = LowRank(moved.up.half(), moved.down.half(), moved.shape)
    assert float((stored.dense() - skewed.dense()).norm()) / skewed.norm() < 5e-4


def test_balancing_leaves_zero_modules_and_comfortable_ones_alone() -> None:
    zero = LowRank(torch.zeros(4, 2), torch.randn(2, 5), (4, 5))
    assert balance(zero) is zero
    fine = low_rank((4, 5), 2, 0)
    assert balance(fine) is fine


def test_finite_numbers_are_told_from_the_rest() -> None:
    assert finite(torch.full((1000,), 3e38)) and finite(torch.full((1000,), 6e4).half()) and finite(torch.zeros(0))
    for poison in (float("nan"), float("inf"), -float("inf")):
        assert not finite(torch.tensor([1.0, poison, 2.0]))
    assert not finite(torch.tensor([float("inf"), -float("inf")]))


def test_gram_matrices_do_not_overflow() -> None:
    huge = torch.full((4, 2), 1e30)
    assert torch.allclose(gram(huge, huge), torch.full((2, 2), 4e60, dtype=torch.float64), rtol=1e-5)


def test_the_sign_goes_into_up_alone() -> None:
    delta = low_rank((4, 5), 2, 0)
    minus = concatenate([(-1.0, delta)])
    assert isinstance(minus, LowRank)
    assert torch.equal(minus.up, -delta.up) and torch.equal(minus.down, delta.down)


def test_terms_of_weight_zero_add_no_columns() -> None:
    a, b = low_rank((4, 5), 2, 0), low_rank((4, 5), 3, 1)
    assert concatenate([(1.0, a), (0.0, b)]).rank == 2
    zero = concatenate([(0.0, a), (0.0, b)])
    assert zero.norm() == 0 and zero.shape == (4, 5)


def test_a_linear_module_and_a_one_by_one_convolution_add_up() -> None:
    a, b = low_rank((4, 5), 2, 0), low_rank((4, 5, 1, 1), 3, 1)
    total = concatenate([(1.0, a), (1.0, b)])
    assert torch.allclose(total.dense(), a.dense() + b.dense().flatten(1), atol=1e-6)


def test_vectors_add_and_keep_their_kind() -> None:
    total = concatenate([(1.0, Vector(torch.ones(3))), (-0.5, Vector(torch.ones(3)))])
    assert isinstance(total, Vector) and torch.equal(total.value, torch.full((3,), 0.5))


@pytest.mark.parametrize("shapes", [((4, 5), (5, 4)), ((4, 5, 3, 3), (4, 5))])
def test_other_shapes_do_not_add(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    with pytest.raises(ShapeError, match="cannot be added"):
        concatenate([(1.0, low_rank(shape, 2, 0)) for shape in shapes])


def test_factors_that_do_not_multiply_are_refused() -> None:
    with pytest.raises(ShapeError, match="do not multiply"):
        LowRank(torch.zeros(4, 2), torch.zeros(3, 5), (4, 5))
    with pytest.raises(ShapeError):
        concatenate([])
