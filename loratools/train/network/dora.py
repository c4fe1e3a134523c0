"""DoRA: LoRA on the direction of a weight, with a trained magnitude for each output row."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from loratools.adapter.algebra.lowrank import LowRank
from loratools.train.network.layers import Lora, LoraDropoutConv, LoraDropoutLinear


class DoraLayer(Lora):
    """DoRA (2402.09353, eq. 5): ``m * (W + s up down) / |W + s up down|``, with a norm and a magnitude for each row.

    ``magnitude`` (out,) starts at the norms of the rows that the layer begins with. As in the paper (section 4.3), no
    gradient passes the norm.
    """

    def extras(self) -> dict[str, Tensor]:
        ones = (1,) * (len(self.shape) - 1)
        return {"dora_scale": self.magnitude.detach().cpu().clone().reshape(-1, *ones)}

    @torch.no_grad()
    def begin_at(self, delta: LowRank) -> None:
        """As :meth:`Lora.begin_at`: magnitudes become the norms of W + ``delta``, which then is the layer's weight."""
        super().begin_at(delta)
        self.magnitude.copy_(self._norm())

    def _init_parameters(self, generator: torch.Generator, device: torch.device) -> None:
        super()._init_parameters(generator, device)
        self.magnitude = nn.Parameter(self._norm())

    @torch.no_grad()
    def _norm(self) -> Tensor:
        weight = cast(Tensor, self.frozen.weight)  # nn.Module types any attribute as a tensor or a module
        with torch.autocast(weight.device.type, enabled=False):
            moved = torch.addmm(weight.to(self.up.dtype).flatten(1), self.up, self.down, alpha=self.scale)
            norm: Tensor = torch.linalg.vector_norm(moved, dim=1)
            return norm.clamp_min(torch.finfo(norm.dtype).tiny)

    def _surplus(self) -> Tensor:
        """``m / |...| - 1`` (out,); without the - 1, changes near 1 would be lost to rounding in bfloat16."""
        return self.magnitude / self._norm() - 1


class DoraLinear(DoraLayer, LoraDropoutLinear):
    """DoRA on a linear module."""

    def forward(self, x: Tensor) -> Tensor:
        moved = self._added(functional.linear(x, self.frozen.weight), x)
        moved = torch.addcmul(moved, moved, self._surplus().to(moved.dtype))
        return moved if self.frozen.bias is None else moved + self.frozen.bias.to(moved.dtype)


class DoraConv(DoraLayer, LoraDropoutConv):
    """DoRA on a convolution."""

    def forward(self, x: Tensor) -> Tensor:
        frozen = self.frozen
        y = functional.conv2d(x, frozen.weight, None, frozen.stride, frozen.padding, frozen.dilation)
        moved = y + self._raised(self._inner(x)).to(y.dtype)
        moved = torch.addcmul(moved, moved, self._surplus().to(moved.dtype)[:, None, None])
        return moved if frozen.bias is None else moved + frozen.bias.to(moved.dtype)[:, None, None]
