"""GroupNorm with what stands before and after it in a UNet: a sum by channel before, SiLU after.

On CUDA with Triton it reads its input twice and writes it once, channels last; elsewhere it is torch's operations in
turn. torch's own GroupNorm turns a channels-last input into channels first, and costs more than it computes.
"""

from __future__ import annotations

import logging
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

_log = logging.getLogger(__name__)
_HALF = 2e-2  # of a normalised value of about 1 to 4: some eight roundings of bfloat16


def group_norm(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    groups: int,
    eps: float,
    *,
    silu: bool = False,
    added: Tensor | None = None,
) -> Tensor:
    """GroupNorm of ``x + added``, then SiLU if ``silu``; laid out channels last where Triton's kernels run.

    Args:
        x: (rows, c, h, w).
        weight, bias: (c,).
        added: (rows, c), contiguous, or None.
    """
    if _by_triton(x):
        from loratools.base.fused import triton_kernels

        laid = x.contiguous(memory_format=torch.channels_last)
        return triton_kernels.group_norm(laid, weight, bias, groups, eps, silu=silu, added=added)
    y = functional.group_norm(x if added is None else x + added[:, :, None, None], groups, weight, bias, eps)
    return functional.silu(y) if silu else y


def add_residual(x: Tensor, residual: Tensor, bias: Tensor) -> Tensor:
    """``x + bias + residual``: (rows, c, h, w) twice and (c,) by channel."""
    if _by_triton(x):
        from loratools.base.fused import triton_kernels

        first, second = (part.contiguous(memory_format=torch.channels_last) for part in (x, residual))
        return triton_kernels.add_residual(first, second, bias)
    return x + bias[:, None, None] + residual


def _by_triton(x: Tensor) -> bool:
    return x.is_cuda and triton_works(x.device)


@cache
def triton_works(device: torch.device) -> bool:
    """Whether Triton's kernels compile on ``device`` and give what torch gives; the reason why not is logged, once."""
    if device.type != "cuda":
        return False
    try:
        from loratools.base.fused import triton_kernels

        with torch.no_grad(), torch.cuda.device(device):
            x, weight, bias, added = _trial(device)
            ours = triton_kernels.group_norm(x, weight, bias, 4, 1e-5, silu=True, added=added)
            sums = triton_kernels.add_residual(x, ours, bias)
            plain = functional.silu(
                functional.group_norm(x.float() + added.float()[:, :, None, None], 4, weight.float(), bias.float())
            )
            expected = x.float() + plain + bias.float()[:, None, None]
            far = max(float((ours - plain).abs().max()), float((sums - expected).abs().max()))
    except Exception as error:  # Triton, its compiler and the driver raise what they like; torch's operations stay
        _log.warning("fused kernels are not used, since Triton fails here: %s", error, exc_info=True)
        return False
    if not far <= _HALF:
        _log.warning("fused kernels are not used, since Triton's results are %g off here", far)
        return False
    return True


def _trial(device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x (2, 24, 13, 11) channels last, weight, bias (24,) and an addend (2, 24), in half precision."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(device, torch.float16)

    return draw(2, 24, 13, 11).contiguous(memory_format=torch.channels_last), draw(24), draw(24), draw(2, 24)
