"""Triton kernels for channels-last (NHWC) tensors: GroupNorm in three passes, and a residual sum with a bias.

Imported only where Triton is installed and the tensors are on CUDA. All arithmetic is in float32; there are no atomic
additions, so that a picture is the same in every run.

A mean and a sum of squared differences are taken of each channel over chunks of pixels, and the chunks of a group's
channels are then combined exactly (Chan, Golub and LeVeque 1979), which does not cancel as E[x^2] - E[x]^2 would.

Sizes are arguments and not constants: Triton compiles a kernel for each constant anew, and a UNet and a VAE have nine
numbers of channels. Compiling them all took several seconds of a first start.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_PIXELS = 128  # of one chunk
_CHANNELS = 64  # of one chunk: 128 bytes of a pixel in half precision
_FEW_PIXELS = 32  # of one program of the elementwise kernels, by as many channels
_GROUP = 64  # channels of a group that one program takes at least: smaller groups share its compiled kernel


@triton.jit  # type: ignore[untyped-decorator, unused-ignore]
def _moments(
    x: tl.tensor,
    added: tl.tensor,
    means: tl.tensor,
    squares: tl.tensor,
    pixels: tl.tensor,
    channels: tl.tensor,
    ADDED: tl.constexpr,
    PIXELS: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """Each channel's mean and sum of squared differences over one chunk of one row's pixels."""
    chunk, row = tl.program_id(0), tl.program_id(2)
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    pixel = chunk * PIXELS + tl.arange(0, PIXELS)
    inside = (pixel < pixels)[:, None] & (channel < channels)[None, :]
    start = row.to(tl.int64) * pixels * channels
    value = tl.load(x + start + pixel[:, None] * channels + channel[None, :], mask=inside, other=0.0).to(tl.float32)
    if ADDED:
        extra = tl.load(added + row * channels + channel, mask=channel < channels, other=0.0).to(tl.float32)
        value = tl.where(inside, value + extra[None, :], 0.0)
    count = tl.minimum(pixels - chunk * PIXELS, PIXELS).to(tl.float32)
    mean = tl.sum(value, 0) / count
    difference = tl.where(inside, value - mean[None, :], 0.0)
    square = tl.sum(difference * difference, 0)
    place = (row.to(tl.int64) * tl.num_programs(0) + chunk) * channels + channel
    tl.store(means + place, mean, mask=channel < channels)
    tl.store(squares + place, square, mask=channel < channels)


@triton.jit(do_not_specialize=["chunks", "group_size"])  # type: ignore[untyped-decorator, unused-ignore]
def _affine(
    means: tl.tensor,
    squares: tl.tensor,
    weight: tl.tensor,
    bias: tl.tensor,
    added: tl.tensor,
    scale: tl.tensor,
    shift: tl.tensor,
    chunks: tl.tensor,
    pixels: tl.tensor,
    channels: tl.tensor,
    group_size: tl.tensor,
    eps: tl.tensor,
    ADDED: tl.constexpr,
    PIXELS: tl.constexpr,
    BLOCK: tl.constexpr,
    AT_ONCE: tl.constexpr,
) -> None:
    """A group's mean and variance out of its chunks, as scale and shift of each of its channels."""
    row, group = tl.program_id(0), tl.program_id(1)
    inner = tl.arange(0, BLOCK)
    channel = group * group_size + inner
    own = inner < group_size
    start = row.to(tl.int64) * chunks * channels
    total = tl.zeros([AT_ONCE, BLOCK], tl.float32)
    for first in range(0, chunks, AT_ONCE):
        chunk = first + tl.arange(0, AT_ONCE)
        mask = (chunk < chunks)[:, None] & own[None, :]
        count = tl.minimum(pixels - chunk * PIXELS, PIXELS).to(tl.float32)
        mean = tl.load(means + start + chunk[:, None] * channels + channel[None, :], mask=mask, other=0.0)
        total += tl.where(mask, mean * count[:, None], 0.0)
    whole = tl.sum(tl.sum(total, 1), 0) / (pixels * group_size)
    total = tl.zeros([AT_ONCE, BLOCK], tl.float32)
    for first in range(0, chunks, AT_ONCE):
        chunk = first + tl.arange(0, AT_ONCE)
        mask = (chunk < chunks)[:, None] & own[None, :]
        count = tl.minimum(pixels - chunk * PIXELS, PIXELS).to(tl.float32)
        place = start + chunk[:, None] * channels + channel[None, :]
        difference = tl.load(means + place, mask=mask, other=0.0) - whole
        square = tl.load(squares + place, mask=mask, other=0.0)
        total += tl.where(mask, square + difference * difference * count[:, None], 0.0)
    variance = tl.sum(tl.sum(total, 1), 0) / (pixels * group_size)
    factor = tl.load(weight + channel, mask=own, other=0.0).to(tl.float32) / tl.sqrt(variance + eps)
    moved = tl.load(bias + channel, mask=own, other=0.0).to(tl.float32) - whole * factor
    if ADDED:
        moved += tl.load(added + row * channels + channel, mask=own, other=0.0).to(tl.float32) * factor
    tl.store(scale + row * channels + channel, factor, mask=own)
    tl.store(shift + row * channels + channel, moved, mask=own)


@triton.jit  # type: ignore[untyped-decorator, unused-ignore]
def _apply(
    x: tl.tensor,
    scale: tl.tensor,
    shift: tl.tensor,
    y: tl.tensor,
    pixels: tl.tensor,
    channels: tl.tensor,
    SILU: tl.constexpr,
    PIXELS: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """y = x * scale + shift by row and channel, and SiLU of that."""
    row = tl.program_id(2)
    pixel = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    own = channel < channels
    inside = (pixel < pixels)[:, None] & own[None, :]
    place = row.to(tl.int64) * pixels * channels + pixel[:, None] * channels + channel[None, :]
    factor = tl.load(scale + row * channels + channel, mask=own, other=0.0)
    moved = tl.load(shift + row * channels + channel, mask=own, other=0.0)
    value = tl.load(x + place, mask=inside, other=0.0).to(tl.float32) * factor[None, :] + moved[None, :]
    if SILU:
        value = value * tl.sigmoid(value)
    tl.store(y + place, value.to(y.dtype.element_ty), mask=inside)


@triton.jit  # type: ignore[untyped-decorator, unused-ignore]
def _residual(
    x: tl.tensor,
    residual: tl.tensor,
    bias: tl.tensor,
    y: tl.tensor,
    pixels: tl.tensor,
    channels: tl.tensor,
    PIXELS: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """y = x + bias + residual."""
    row = tl.program_id(2)
    pixel = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    own = channel < channels
    inside = (pixel < pixels)[:, None] & own[None, :]
    place = row.to(tl.int64) * pixels * channels + pixel[:, None] * channels + channel[None, :]
    value = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
    value += tl.load(residual + place, mask=inside, other=0.0).to(tl.float32)
    value += tl.load(bias + channel, mask=own, other=0.0).to(tl.float32)[None, :]
    tl.store(y + place, value.to(y.dtype.element_ty), mask=inside)


def group_norm(
    x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float, *, silu: bool, added: Tensor | None
) -> Tensor:
    """:func:`loratools.base.fused.group_norm.group_norm` for x (rows, c, h, w) laid out channels last."""
    rows, channels, height, width = x.shape
    pixels, own = height * width, channels // groups
    chunks, blocks = triton.cdiv(pixels, _PIXELS), triton.cdiv(channels, _CHANNELS)
    means, squares = (torch.empty(rows, chunks, channels, device=x.device, dtype=torch.float32) for _ in range(2))
    scale, shift = (torch.empty(rows, channels, device=x.device, dtype=torch.float32) for _ in range(2))
    extra = x if added is None else added
    _moments[(chunks, blocks, rows)](
        x, extra, means, squares, pixels, channels, ADDED=added is not None, PIXELS=_PIXELS, BLOCK=_CHANNELS
    )
    _affine[(rows, groups)](
        means, squares, weight, bias, extra, scale, shift, chunks, pixels, channels, own, eps,
        ADDED=added is not None, PIXELS=_PIXELS, BLOCK=max(_GROUP, triton.next_power_of_2(own)), AT_ONCE=16,
        num_warps=2,
    )  # fmt: skip
    y = torch.empty_like(x)
    _apply[(triton.cdiv(pixels, _FEW_PIXELS), blocks, rows)](
        x, scale, shift, y, pixels, channels, SILU=silu, PIXELS=_FEW_PIXELS, BLOCK=_CHANNELS
    )
    return y


def add_residual(x: Tensor, residual: Tensor, bias: Tensor) -> Tensor:
    """x + bias by channel + residual, all (rows, c, h, w) laid out channels last."""
    rows, channels, height, width = x.shape
    y = torch.empty_like(x)
    grid = (triton.cdiv(height * width, _FEW_PIXELS), triton.cdiv(channels, _CHANNELS), rows)
    _residual[grid](x, residual, bias, y, height * width, channels, PIXELS=_FEW_PIXELS, BLOCK=_CHANNELS)
    return y
