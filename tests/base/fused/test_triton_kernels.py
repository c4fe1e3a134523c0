"""Triton's kernels against torch's operations: on CUDA, or by Triton's interpreter (``TRITON_INTERPRET=1``)."""

from __future__ import annotations

import os

import pytest
import torch
from torch.nn import functional

CUDA = torch.cuda.is_available()
pytest.importorskip("triton")
if not CUDA and os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("no GPU, and TRITON_INTERPRET is not 1", allow_module_level=True)
from loratools.base.fused import triton_kernels  # noqa: E402 only where Triton runs

DEVICE = "cuda" if CUDA else "cpu"
SHAPES = [(2, 24, 13, 11, 4), (1, 320, 8, 8, 32), (3, 30, 17, 8, 3), (2, 64, 1, 1, 32), (2, 96, 40, 33, 32)]


def _channels_last(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, device=DEVICE).contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("silu", [False, True])
@pytest.mark.parametrize("with_added", [False, True])
def test_group_norm_is_torchs(shape: tuple[int, ...], silu: bool, with_added: bool) -> None:
    torch.manual_seed(0)
    rows, channels, height, width, groups = shape
    x = _channels_last(rows, channels, height, width) * 3 + 5
    weight, bias = torch.randn(2, channels, device=DEVICE)
    added = torch.randn(rows, channels, device=DEVICE) * 4 if with_added else None
    ours = triton_kernels.group_norm(x, weight, bias, groups, 1e-5, silu=silu, added=added)
    whole = x.double() if added is None else x.double() + added.double()[:, :, None, None]
    expected = functional.group_norm(whole, groups, weight.double(), bias.double(), 1e-5)
    expected = functional.silu(expected) if silu else expected
    assert ours.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(ours.double(), expected, rtol=1e-4, atol=1e-4)


def test_a_large_mean_does_not_cancel() -> None:
    x = _channels_last(2, 32, 40, 40) + 1000
    ours = triton_kernels.group_norm(
        x, torch.ones(32, device=DEVICE), torch.zeros(32, device=DEVICE), 8, 1e-5, silu=False, added=None
    )
    torch.testing.assert_close(ours.double(), functional.group_norm(x.double(), 8), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_residual_sum_is_torchs(shape: tuple[int, ...]) -> None:
    x, residual, bias = _channels_last(*shape[:4]), _channels_last(*shape[:4]), torch.randn(shape[1], device=DEVICE)
    torch.testing.assert_close(triton_kernels.add_residual(x, residual, bias), x + bias[:, None, None] + residual)


def test_the_same_input_gives_the_same_bits() -> None:
    x, weight, bias = _channels_last(2, 64, 40, 40), torch.randn(64, device=DEVICE), torch.randn(64, device=DEVICE)
    made = [triton_kernels.group_norm(x, weight, bias, 32, 1e-5, silu=True, added=None) for _ in range(3)]
    assert all(torch.equal(made[0], other) for other in made[1:])
