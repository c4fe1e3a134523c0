"""``y += a b`` in place as one operation that torch's compiler keeps.

The compiler turns ``addmm_`` into a copy of y and a product beside it, which costs as much as the product.
"""

from __future__ import annotations

import torch
from torch import Tensor


@torch.library.custom_op("loratools::add_product", mutates_args=("y",))
def _kept(y: Tensor, a: Tensor, b: Tensor) -> None:
    add_product(y, a, b)


@_kept.register_fake
def _(y: Tensor, a: Tensor, b: Tensor) -> None:
    """Writes nothing."""


def add_product(y: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """y (n, out) with a (n, r) b (r, out) added to it; or all of them with a first dimension of rows."""
    if torch.compiler.is_compiling() or _traced():
        _kept(y, a, b)
        return y
    return y.addmm_(a, b) if y.dim() == 2 else y.baddbmm_(a, b)


def _traced() -> bool:
    from torch.fx.experimental.proxy_tensor import get_proxy_mode

    return get_proxy_mode() is not None
