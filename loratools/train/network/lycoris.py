"""LoHa and LoKr: differences that are products of more than two factors, in LyCORIS' file format (2309.14859).

Written out here, and not taken from the lycoris-lora package: its modules make tensors on the host in every step,
which no CUDA graph can hold. The tests compare both where that package is installed.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from loratools.train.network.layers import AdapterLayer, uniform

_MOST_ALPHA = 4096.0  # that is written of whole matrices, whose alpha counts nowhere: half precision ends at 65504


class Loha(AdapterLayer):
    """``scale * (w1_a w1_b) * (w2_a w2_b)``, elementwise between the products (FedPara, 2108.06098).

    ``w?_a`` (out, r), ``w?_b`` (r, in * kh * kw); ``w2_a`` starts at zero.
    """

    def extras(self) -> dict[str, Tensor]:
        named = {f"hada_{name}": factor.detach().cpu().clone() for name, factor in self.factors().items()}
        return {"alpha": torch.tensor(self.scale * self.rank), **named}

    @torch.no_grad()
    def limit_norm(self, most: float) -> None:
        share = (most / self._difference(self.w1_a.dtype).norm()).clamp_max(1)
        self.w2_a.mul_(share)

    def _init_parameters(self, generator: torch.Generator, device: torch.device) -> None:
        rows, columns = self.shape[0], math.prod(self.shape[1:])

        def normal(shape: tuple[int, int], deviation: float) -> nn.Parameter:
            return nn.Parameter((torch.randn(shape, generator=generator) * deviation).to(device))

        self.w1_a, self.w1_b = normal((rows, self.rank), 0.1), normal((self.rank, columns), 1.0)
        self.w2_a = nn.Parameter(torch.zeros(rows, self.rank, device=device))
        self.w2_b = normal((self.rank, columns), 1.0)

    def _difference(self, dtype: torch.dtype) -> Tensor:
        factors = (factor.to(dtype) for factor in (self.w1_a, self.w1_b, self.w2_a, self.w2_b))
        product: Tensor = _Hadamard.apply(*factors, self.scale)  # type: ignore[no-untyped-call]
        return product.reshape(self.shape)


class LohaLinear(Loha):
    """LoHa on a linear module."""

    frozen: nn.Linear

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.frozen(x)
        added: Tensor = self.dropout(functional.linear(x, self._difference(x.dtype)))
        return y + added


class LohaConv(Loha):
    """LoHa on a convolution."""

    frozen: nn.Conv2d

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.frozen(x)
        frozen, weight = self.frozen, self._difference(x.dtype)
        added: Tensor = self.dropout(functional.conv2d(x, weight, None, frozen.stride, frozen.padding, frozen.dilation))
        return y + added


class Lokr(AdapterLayer):
    """``scale * w1 (x) w2``, a Kronecker product that is never formed.

    ``w1`` (l, m) and ``w2`` (k, n * kh * kw) with l * k rows and m * n columns. ``w2`` is ``w2_a w2_b`` of the rank,
    or whole (at a scale of 1) where the rank is half of its longer side or more. ``w2`` starts at zero.

    Args:
        factor: greatest size of ``w1``'s sides, -1 for as square as can be.
    """

    def __init__(
        self,
        frozen: nn.Module,
        rank: int,
        alpha: float,
        generator: torch.Generator,
        *,
        stabilised: bool = False,
        dropout: nn.Module | None = None,
        factor: int = -1,
    ) -> None:
        self._factor = factor
        super().__init__(frozen, rank, alpha, generator, stabilised=stabilised, dropout=dropout)

    def extras(self) -> dict[str, Tensor]:
        named = {f"lokr_{name}": factor.detach().cpu().clone() for name, factor in self.factors().items()}
        if "lokr_w2" in named:
            named["lokr_w2"] = named["lokr_w2"].reshape(self._second_shape)
            return {"alpha": torch.tensor(min(self.scale * self.rank, _MOST_ALPHA)), **named}
        return {"alpha": torch.tensor(self.scale * self.rank), **named}

    @torch.no_grad()
    def limit_norm(self, most: float) -> None:
        share = (most / (self.w1.norm() * self._second(self.w1.dtype).norm())).clamp_max(1)
        self.w1.mul_(share)

    def _init_parameters(self, generator: torch.Generator, device: torch.device) -> None:
        self._rows, self._columns = split(self.shape[0], self._factor), split(self.shape[1], self._factor)
        (rows, high), (columns, wide) = self._rows, self._columns
        self._second_shape = (high, wide, *self.shape[2:])
        width = math.prod(self._second_shape[1:])
        self.w1 = uniform((rows, columns), columns, generator, device)
        if self.rank < max(high, wide) / 2:
            self.w2_a = uniform((high, self.rank), self.rank, generator, device)
            self.w2_b = nn.Parameter(torch.zeros(self.rank, width, device=device))
        else:
            self.scale = 1.0
            self.w2 = nn.Parameter(torch.zeros(high, width, device=device))

    def _second(self, dtype: torch.dtype) -> Tensor:
        """``scale * w2``, (k, n[, kh, kw])."""
        factors = self.factors()
        if "w2" in factors:
            return factors["w2"].to(dtype).reshape(self._second_shape)
        return (factors["w2_a"].to(dtype) @ (factors["w2_b"].to(dtype) * self.scale)).reshape(self._second_shape)


class LokrLinear(Lokr):
    """LoKr on a linear module: the inputs as (..., m, n), through ``w2`` on n and ``w1`` on m."""

    frozen: nn.Linear

    def forward(self, x: Tensor) -> Tensor:
        inner = functional.linear(x.reshape(*x.shape[:-1], *self._columns), self._second(x.dtype))
        y: Tensor = self.frozen(x)
        added: Tensor = self.dropout((self.w1.to(x.dtype) @ inner).reshape(y.shape))
        return y + added


class LokrConv(Lokr):
    """LoKr on a convolution: ``w2`` is one on each of m groups of channels, ``w1`` mixes the groups."""

    frozen: nn.Conv2d

    def forward(self, x: Tensor) -> Tensor:
        frozen, (groups, wide) = self.frozen, self._columns
        parts = x.reshape(len(x) * groups, wide, *x.shape[2:])
        inner = functional.conv2d(parts, self._second(x.dtype), None, frozen.stride, frozen.padding, frozen.dilation)
        y: Tensor = self.frozen(x)
        added: Tensor = self.dropout((self.w1.to(x.dtype) @ inner.reshape(len(x), groups, -1)).reshape(y.shape))
        return y + added


class _Hadamard(torch.autograd.Function):
    """(a b) * (c d) * scale; the products are computed again in the backward pass instead of being kept."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, c: Tensor, d: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(a, b, c, d)
        ctx.scale = scale
        return (a @ b).mul_(c @ d).mul_(scale)

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, None]:
        a, b, c, d = ctx.saved_tensors
        grad = outer[0] * ctx.scale
        first, second = grad * (c @ d), grad * (a @ b)
        return first @ b.mT, a.mT @ first, second @ d.mT, c.mT @ second, None


def split(size: int, factor: int) -> tuple[int, int]:
    """``size`` as a smaller and a larger divisor, the smaller one at most ``factor`` (-1: as large as can be).

    A ``factor`` that divides ``size`` is one of the two itself.
    """
    if factor > 0 and size % factor == 0:
        return min(factor, size // factor), max(factor, size // factor)
    most = min(math.isqrt(size), factor if factor > 0 else size)
    smaller = next(divisor for divisor in range(most, 0, -1) if size % divisor == 0)
    return smaller, size // smaller
