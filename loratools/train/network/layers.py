"""Adapter layers: what replaces a frozen module while it is trained. The base class, plain LoRA, LoRA with dropout.

The class is chosen when the network is built, so that a plain LoRA's forward pass has no branches on its options.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from loratools.adapter.algebra.lowrank import LowRank


class AdapterLayer(nn.Module):
    """A frozen module whose weight a network changes; its own parameters are float32 whatever the base is stored in.

    Args:
        rank, alpha: the difference is scaled by alpha / rank, or by alpha / sqrt(rank) if ``stabilised`` (rsLoRA,
            2312.03732).
        generator: for the initial values; the layer starts out equal to ``frozen``.
        dropout: applied to the inner activations, (..., r) or (b, r, h, w), by the classes that have dropout.
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
    ) -> None:
        super().__init__()
        weight = frozen.weight
        if not isinstance(weight, Tensor):
            raise TypeError(f"a {type(frozen).__name__} has no weight")
        self.frozen = frozen
        self.rank, self.alpha = rank, alpha
        self.scale = alpha / (math.sqrt(rank) if stabilised else rank)
        self.shape: tuple[int, ...] = tuple(weight.shape)
        self.dropout = dropout or nn.Identity()
        self._init_parameters(generator, weight.device)

    def factors(self) -> dict[str, nn.Parameter]:
        """The parameters that are trained, by name."""
        return dict(self.named_parameters(recurse=False))

    def delta(self) -> LowRank | None:
        """The weight's difference (for DoRA: its direction's), if it has two factors; a float32 copy on the CPU."""
        return None

    def extras(self) -> dict[str, Tensor]:
        """What a file holds of it beside those two factors, by the last part of the keys; copies on the CPU."""
        return {}

    def limit_norm(self, most: float) -> None:
        """Scale the difference down to the Frobenius norm ``most`` if it is larger; reads nothing on the host."""
        raise NotImplementedError

    def _init_parameters(self, generator: torch.Generator, device: torch.device) -> None:
        """Create the parameters; called by the constructor."""
        raise NotImplementedError


class Lora(AdapterLayer):
    """W x + scale * up (down x): LoRA, Hu et al. 2021, eq. 3.

    ``down`` (r, in * kh * kw) starts uniform (kaiming, a = sqrt 5), ``up`` (out, r) at zero.
    """

    def delta(self) -> LowRank:
        return LowRank((self.up.detach() * self.scale).cpu().clone(), self.down.detach().cpu().clone(), self.shape)

    @torch.no_grad()
    def begin_at(self, delta: LowRank) -> None:
        """Set the layer to W + ``delta``; ranks above the delta's keep their initial values, whose difference is 0."""
        self.up[:, : delta.rank] = (delta.up / self.scale).to(self.up)
        self.down[: delta.rank] = delta.down.to(self.down)

    def limit_norm(self, most: float) -> None:
        limit_norms([self], most)

    def _init_parameters(self, generator: torch.Generator, device: torch.device) -> None:
        columns = math.prod(self.shape[1:])
        self.down = uniform((self.rank, columns), columns, generator, device)
        self.up = nn.Parameter(torch.zeros(self.shape[0], self.rank, device=device))


@torch.no_grad()
def limit_norms(layers: Sequence[Lora], most: float) -> None:
    """:meth:`AdapterLayer.limit_norm` of many layers, those of one shape and scale in the same few kernels.

    ``|up down|`` comes from the factors' Gram matrices, and both are shrunk alike.
    """
    alike: dict[tuple[torch.Size, torch.Size, float], list[Lora]] = defaultdict(list)
    for layer in layers:
        alike[layer.up.shape, layer.down.shape, layer.scale].append(layer)
    for (_, _, scale), members in alike.items():
        ups, downs = (torch.stack([getattr(each, side) for each in members]) for side in ("up", "down"))
        squared = ((ups.mT @ ups) * (downs @ downs.mT)).sum((1, 2)).clamp_min(0)
        share = (most / (squared.sqrt() * scale)).clamp_max(1).sqrt()[:, None, None]
        torch._foreach_copy_([each.up for each in members], list((ups * share).unbind()))
        torch._foreach_copy_([each.down for each in members], list((downs * share).unbind()))


class LoraLinear(Lora):
    """LoRA on a linear module: x (..., in) -> (..., out)."""

    frozen: nn.Linear

    def forward(self, x: Tensor) -> Tensor:
        flat = x.reshape(-1, self.shape[1])
        y: Tensor = self.frozen(flat)
        inner = functional.linear(flat, self.down.to(x.dtype))
        y.addmm_(inner, self.up.to(inner.dtype).mT, alpha=self.scale)  # in place: a new result would be a copy of y
        return y.reshape(*x.shape[:-1], self.shape[0])


class LoraConv(Lora):
    """LoRA on a convolution: ``down`` has the kernel and stride of the frozen one, ``up`` is 1x1."""

    frozen: nn.Conv2d

    def forward(self, x: Tensor) -> Tensor:
        added = self._raised(self._inner(x))
        y: Tensor = self.frozen(x)
        return y + added.to(y.dtype)

    def _inner(self, x: Tensor) -> Tensor:
        kernel = self.down.to(x.dtype).reshape(-1, *self.shape[1:])
        return functional.conv2d(x, kernel, None, self.frozen.stride, self.frozen.padding, self.frozen.dilation)

    def _raised(self, inner: Tensor) -> Tensor:
        return functional.conv2d(inner, (self.up * self.scale).to(inner.dtype)[:, :, None, None])


class LoraDropoutLinear(LoraLinear):
    """LoRA on a linear module, with dropout on the inner activations while training."""

    def forward(self, x: Tensor) -> Tensor:
        return self._added(self.frozen(x), x)

    def _added(self, y: Tensor, x: Tensor) -> Tensor:
        inner: Tensor = self.dropout(functional.linear(x, self.down.to(x.dtype)))
        up, flat = self.up.to(inner.dtype), inner.reshape(-1, inner.shape[-1])
        return torch.addmm(y.reshape(-1, self.shape[0]), flat, up.mT, alpha=self.scale).reshape(y.shape)


class LoraDropoutConv(LoraConv):
    """LoRA on a convolution, with dropout on the inner activations while training."""

    def _inner(self, x: Tensor) -> Tensor:
        dropped: Tensor = self.dropout(super()._inner(x))
        return dropped


class RankDropout(nn.Module):
    """Drops whole ranks of each sample with probability ``p``; the others are scaled by 1 / (1 - p).

    Args:
        axis: of the ranks in the inner activations: -1 for linear modules, 1 for convolutions.
    """

    def __init__(self, p: float, axis: int) -> None:
        super().__init__()
        self.p, self.axis = p, axis

    def forward(self, inner: Tensor) -> Tensor:
        if not self.training:
            return inner
        shape = [1] * inner.dim()
        shape[0], shape[self.axis] = inner.shape[0], inner.shape[self.axis]
        kept = torch.rand(shape, device=inner.device) >= self.p
        return inner * (kept / (1 - self.p)).to(inner.dtype)


class ModuleDropout(nn.Module):
    """Drops the whole layer in a step with probability ``p``, by a factor 0 or 1 that is drawn on the device."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, inner: Tensor) -> Tensor:
        if not self.training:
            return inner
        kept = torch.rand((), device=inner.device) >= self.p
        return inner * kept.to(inner.dtype)


def uniform(shape: tuple[int, int], columns: int, generator: torch.Generator, device: torch.device) -> nn.Parameter:
    """A matrix with kaiming's uniform initialisation, a = sqrt 5: bound sqrt(1/3) * sqrt(3 / ``columns``)."""
    bound = 1 / math.sqrt(columns)
    return nn.Parameter((torch.rand(shape, generator=generator) * (2 * bound) - bound).to(device))
