"""Low-rank branches beside one module: forwards that stand in the module's place and read factors out of buffers.

The factors are plain attributes, so that whoever compiles a block can pass them in as its inputs
(:mod:`loratools.base.compiled`); where a graph was captured, other contents of the same memory change what it gives.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from loratools.base.patching.add_product import add_product


class Branch:
    """A branch beside ``module``, a linear one or a 1x1 convolution: called in the place of its forward.

    Attributes:
        factors: the names of the attributes that hold tensors.
    """

    factors: tuple[str, ...] = ("down", "up")

    def __init__(self, module: nn.Module, down: Tensor, up: Tensor) -> None:
        self._module, self.down, self.up = module, down, up
        self._before: Callable[[Tensor], Tensor] | None = None
        self._forward: Callable[[Tensor], Tensor] = module.forward

    def attach(self) -> None:
        """Take the place of the module's forward."""
        self._before, self._forward = vars(self._module).get("forward"), self._module.forward
        self._module.forward = self

    def detach(self) -> None:
        """Give the place back."""
        if self._before is None:
            del self._module.forward
        else:
            self._module.forward = self._before

    def __call__(self, x: Tensor) -> Tensor:
        """x (rows, ..., in), or (rows, in, h, w) of a convolution -> the module's output with the branch in it."""
        if not isinstance(self._module, nn.Conv2d):
            return self.beside(x)
        y = self._forward(x)
        added = self.added(_tokens(x), _tokens(y)).view(len(y), *y.shape[2:], -1).permute(0, 3, 1, 2)
        return added if y.is_contiguous(memory_format=torch.channels_last) else added.contiguous()

    def beside(self, x: Tensor) -> Tensor:
        """A linear module: x (rows, ..., in) -> (rows, ..., out)."""
        y = self._forward(x)
        rows = len(x)
        return self.added(x.reshape(rows, -1, x.shape[-1]), y.reshape(rows, -1, y.shape[-1])).view(y.shape)

    def added(self, x: Tensor, y: Tensor) -> Tensor:
        """x (rows, n, in) and y (rows, n, out), which is written over -> y with the branch in it."""
        raise NotImplementedError


class RowBranch(Branch):
    """Every row has its own factors: down (rows, r, in), up (rows, r, out), with the strength in up."""

    def added(self, x: Tensor, y: Tensor) -> Tensor:
        """As :meth:`Branch.added`: two batched products."""
        rows = len(x)
        return add_product(y, torch.bmm(x, self.down[:rows].mT), self.up[:rows])


class SharedBranch(Branch):
    """All rows have the same factors, each with its own strengths: down (r, in), up (r, out), scale (rows, r).

    ``y = W x + b + up^T (scale * (down x))``: plain products over all rows. Where the output is much wider than the
    input, W and up are joined, since adding to a wide output costs more than copying a narrow input.
    """

    factors = ("down", "up", "scale")

    def __init__(self, module: nn.Module, down: Tensor, up: Tensor, scale: Tensor) -> None:
        super().__init__(module, down, up)
        self.scale = scale

    def beside(self, x: Tensor) -> Tensor:
        """As :meth:`Branch.beside`."""
        module = self._module
        if type(module) is not nn.Linear or self._before is not None or module.out_features <= 2 * module.in_features:
            return super().beside(x)
        tokens = x.reshape(len(x), -1, x.shape[-1])
        wide = torch.cat([tokens, self._inner(tokens)], -1)
        y = functional.linear(wide, torch.cat([module.weight, self.up.mT], 1), module.bias)
        return y.view(*x.shape[:-1], -1)

    def added(self, x: Tensor, y: Tensor) -> Tensor:
        """As :meth:`Branch.added`."""
        inner = self._inner(x).flatten(0, 1)
        return add_product(y.flatten(0, 1), inner, self.up).view(y.shape)

    def _inner(self, x: Tensor) -> Tensor:
        """scale * (down x): (rows, n, in) -> (rows, n, r); strengths are float32, and their product is rounded once."""
        inner = functional.linear(x, self.down)
        return inner.mul_(self.scale[: len(x), None])


def _tokens(x: Tensor) -> Tensor:
    """(rows, c, h, w) -> (rows, h w, c): a view where the tensor is laid out channels last."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)
