"""What stands in place of a frozen module while it is trained: the plain branch, and its kinds with more to it.

The class is chosen when the network is built, so that a plain LoRA's forward pass does not ask what it is.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from loratools.adapter.algebra.lowrank import LowRank


class Branch(nn.Module):
    """A frozen module whose weight a network changes; its own parameters are float32 whatever the base is stored in.

    Args:
        rank, alpha: the difference is scaled by alpha / rank, or by alpha / sqrt(rank) if ``stabilised`` (rsLoRA,
            2312.03732).
        generator: of the start, which is at the base.
        drop: what kinds that drop activations do to the inner ones, (..., r) or (b, r, h, w).
    """

    def __init__(
        self,
        frozen: nn.Module,
        rank: int,
        alpha: float,
        generator: torch.Generator,
        *,
        stabilised: bool = False,
        drop: nn.Module | None = None,
    ) -> None:
        super().__init__()
        weight = frozen.weight
        if not isinstance(weight, Tensor):
            raise TypeError(f"a {type(frozen).__name__} has no weight")
        self.frozen = frozen
        self.rank, self.alpha = rank, alpha
        self.scale = alpha / (math.sqrt(rank) if stabilised else rank)
        self.shape: tuple[int, ...] = tuple(weight.shape)
        self.drop = drop or nn.Identity()
        self._begin(generator, weight.device)

    def factors(self) -> dict[str, nn.Parameter]:
        """Everything that is trained, by name."""
        return dict(self.named_parameters(recurse=False))

    def delta(self) -> LowRank | None:
        """Its difference (of a DoRA: its direction's) where that is two factors; a float32 copy on the CPU."""
        return None

    def extras(self) -> dict[str, Tensor]:
        """What its file holds beside those two factors, by the last part of the keys; copies on the CPU."""
        return {}

    def limit_norm(self, most: float) -> None:
        """Shrink its difference to the Frobenius norm ``most`` where it is larger; reads nothing on the host."""
        raise NotImplementedError

    def _begin(self, generator: torch.Generator, device: torch.device) -> None:
        """Make the parameters."""
        raise NotImplementedError


class Lora(Branch):
    """W x + scale * up (down x): LoRA, Hu et al. 2021, eq. 3.

    ``down`` (r, in * kh * kw) starts uniform (kaiming, a = sqrt 5), ``up`` (out, r) at zero.
    """

    def delta(self) -> LowRank:
        return LowRank((self.up.detach() * self.scale).cpu().clone(), self.down.detach().cpu().clone(), self.shape)

    def limit_norm(self, most: float) -> None:
        limit_together([self], most)

    def _begin(self, generator: torch.Generator, device: torch.device) -> None:
        columns = math.prod(self.shape[1:])
        self.down = uniform((self.rank, columns), columns, generator, device)
        self.up = nn.Parameter(torch.zeros(self.shape[0], self.rank, device=device))


@torch.no_grad()
def limit_together(branches: Sequence[Lora], most: float) -> None:
    """:meth:`Branch.limit_norm` of many branches, those of one shape and scale in the same few kernels.

    ``|up down|`` comes from the factors' Gram matrices, and both are shrunk alike.
    """
    alike: dict[tuple[torch.Size, torch.Size, float], list[Lora]] = defaultdict(list)
    for branch in branches:
        alike[branch.up.shape, branch.down.shape, branch.scale].append(branch)
    for (_, _, scale), members in alike.items():
        ups, downs = (torch.stack([getattr(each, side) for each in members]) for side in ("up", "down"))
        squared = ((ups.mT @ ups) * (downs @ downs.mT)).sum((1, 2)).clamp_min(0)
        share = (most / (squared.sqrt() * scale)).clamp_max(1).sqrt()[:, None, None]
        torch._foreach_copy_([each.up for each in members], list((ups * share).unbind()))
        torch._foreach_copy_([each.down for each in members], list((downs * share).unbind()))


class LoraLinear(Lora):
    """A branch beside a linear module: x (..., in) -> (..., out)."""

    frozen: nn.Linear

    def forward(self, x: Tensor) -> Tensor:
        flat = x.reshape(-1, self.shape[1])
        y: Tensor = self.frozen(flat)
        inner = functional.linear(flat, self.down.to(x.dtype))
        y.addmm_(inner, self.up.to(inner.dtype).mT, alpha=self.scale)  # in place: a new result would be a copy of y
        return y.reshape(*x.shape[:-1], self.shape[0])


class LoraConv(Lora):
    """A branch beside a convolution: ``down`` is one of the frozen one's kernel and stride, ``up`` is 1x1."""

    frozen: nn.Conv2d

    def forward(self, x: Tensor) -> Tensor:
        branch = self._raised(self._inner(x))
        y: Tensor = self.frozen(x)
        return y + branch.to(y.dtype)

    def _inner(self, x: Tensor) -> Tensor:
        kernel = self.down.to(x.dtype).reshape(-1, *self.shape[1:])
        return functional.conv2d(x, kernel, None, self.frozen.stride, self.frozen.padding, self.frozen.dilation)

    def _raised(self, inner: Tensor) -> Tensor:
        return functional.conv2d(inner, (self.up * self.scale).to(inner.dtype)[:, :, None, None])


class DroppedLinear(LoraLinear):
    """A linear branch whose inner activations are partly dropped while training."""

    def forward(self, x: Tensor) -> Tensor:
        return self._added(self.frozen(x), x)

    def _added(self, y: Tensor, x: Tensor) -> Tensor:
        inner: Tensor = self.drop(functional.linear(x, self.down.to(x.dtype)))
        up, flat = self.up.to(inner.dtype), inner.reshape(-1, inner.shape[-1])
        return torch.addmm(y.reshape(-1, self.shape[0]), flat, up.mT, alpha=self.scale).reshape(y.shape)


class DroppedConv(LoraConv):
    """A convolution's branch whose inner activations are partly dropped while training."""

    def _inner(self, x: Tensor) -> Tensor:
        dropped: Tensor = self.drop(super()._inner(x))
        return dropped


class Magnitude(Lora):
    """DoRA (2402.09353, eq. 5): ``m * (W + s up down) / |W + s up down|``, a norm and a magnitude an output row.

    ``magnitude`` (out,) starts at the rows' own norms. As there (section 4.3), no gradient goes through the norm.
    """

    def extras(self) -> dict[str, Tensor]:
        ones = (1,) * (len(self.shape) - 1)
        return {"dora_scale": self.magnitude.detach().cpu().clone().reshape(-1, *ones)}

    def _begin(self, generator: torch.Generator, device: torch.device) -> None:
        super()._begin(generator, device)
        self.magnitude = nn.Parameter(self._norm())

    @torch.no_grad()
    def _norm(self) -> Tensor:
        weight = cast(Tensor, self.frozen.weight)  # nn.Module types any attribute as a tensor or a module
        with torch.autocast(weight.device.type, enabled=False):
            moved = torch.addmm(weight.to(self.up.dtype).flatten(1), self.up, self.down, alpha=self.scale)
            norm: Tensor = torch.linalg.vector_norm(moved, dim=1)
            return norm.clamp_min(torch.finfo(norm.dtype).tiny)

    def _surplus(self) -> Tensor:
        """``m / |...| - 1`` (out,): the factor itself, which stays near 1, would be rounded away in bfloat16."""
        return self.magnitude / self._norm() - 1


class DoraLinear(Magnitude, DroppedLinear):
    """A linear module kept as magnitude and direction."""

    def forward(self, x: Tensor) -> Tensor:
        moved = self._added(functional.linear(x, self.frozen.weight), x)
        moved = torch.addcmul(moved, moved, self._surplus().to(moved.dtype))
        return moved if self.frozen.bias is None else moved + self.frozen.bias.to(moved.dtype)


class DoraConv(Magnitude, DroppedConv):
    """A convolution kept as magnitude and direction."""

    def forward(self, x: Tensor) -> Tensor:
        frozen = self.frozen
        y = functional.conv2d(x, frozen.weight, None, frozen.stride, frozen.padding, frozen.dilation)
        moved = y + self._raised(self._inner(x)).to(y.dtype)
        moved = torch.addcmul(moved, moved, self._surplus().to(moved.dtype)[:, None, None])
        return moved if frozen.bias is None else moved + frozen.bias.to(moved.dtype)[:, None, None]


class RankDrop(nn.Module):
    """Leaves out whole ranks of each sample with probability ``p``; the rest counts 1 / (1 - p).

    Args:
        axis: of the ranks in the inner activations: -1 beside linear modules, 1 beside convolutions.
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


class ModuleDrop(nn.Module):
    """Leaves the whole branch out of a step with probability ``p``, by a factor 0 or 1 that the device draws."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, inner: Tensor) -> Tensor:
        if not self.training:
            return inner
        kept = torch.rand((), device=inner.device) >= self.p
        return inner * kept.to(inner.dtype)


def uniform(shape: tuple[int, int], columns: int, generator: torch.Generator, device: torch.device) -> nn.Parameter:
    """A matrix at kaiming's start with a = sqrt 5: gain sqrt(1/3), times sqrt(3 / ``columns``)."""
    bound = 1 / math.sqrt(columns)
    return nn.Parameter((torch.rand(shape, generator=generator) * (2 * bound) - bound).to(device))
