"""Every additive kind of adapter, lowered exactly to factors: Tucker LoCon, LoHa, LoKr and full differences.

``s = alpha / rank`` is folded in here, once. Formulas: LyCORIS (Yeh et al., 2309.14859); LoHa is FedPara (2108.06098).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from loratools.adapter.algebra.lowrank import Delta, Dense, LowRank, Vector
from loratools.adapter.algebra.shapes import Shape


def lower(kind: str, tensors: Mapping[str, Tensor], shape: Shape, scale: float) -> Delta:
    """The exact difference that ``tensors`` (float32, by role) stand for, with ``scale`` folded in once."""
    match kind:
        case "lora":
            return LowRank(_matrix(tensors["up"]), _matrix(tensors["down"]), shape).scaled(scale)
        case "tucker":
            down = torch.einsum("mrhw,ri->mihw", tensors["mid"], _matrix(tensors["down"]))
            return LowRank(_matrix(tensors["up"]), _matrix(down), shape).scaled(scale)
        case "loha":
            return _loha(tensors, shape).scaled(scale)
        case "lokr":
            return _lokr(tensors, shape).scaled(scale)
    value = tensors["w_norm" if kind == "norm" else "diff"]
    return Vector(value) if value.dim() == 1 else Dense(value)


def _loha(tensors: Mapping[str, Tensor], shape: Shape) -> LowRank:
    """``(w1a w1b) * (w2a w2b)`` elementwise: rank r^2, rows and columns multiplied pairwise (Khatri-Rao)."""
    up1, down1 = _side(tensors["w1_a"], tensors["w1_b"], tensors.get("t1"))
    up2, down2 = _side(tensors["w2_a"], tensors["w2_b"], tensors.get("t2"))
    up = torch.einsum("oi,oj->oij", up1, up2).reshape(up1.shape[0], -1)
    down = torch.einsum("in,jn->ijn", down1, down2).reshape(-1, down1.shape[1])
    return LowRank(up, down, shape)


def _side(a: Tensor, b: Tensor, core: Tensor | None) -> tuple[Tensor, Tensor]:
    if core is None:
        return _matrix(a), _matrix(b)
    return a.T, torch.einsum("ijhw,jn->inhw", core, b).flatten(1)


def _lokr(tensors: Mapping[str, Tensor], shape: Shape) -> Delta:
    """``w1 (x) w2 = (U1 (x) U2)(V1 (x) V2)``; a full matrix where that rank would be no saving."""
    up1, down1, up2, down2 = (f.contiguous() for side in "12" for f in _lokr_side(tensors, side))
    rank = up1.shape[1] * up2.shape[1]
    if rank >= min(shape[0], math.prod(shape[1:])):
        return Dense(torch.kron(up1 @ down1, up2 @ down2).reshape(shape))
    return LowRank(torch.kron(up1, up2), torch.kron(down1, down2), shape)


def _lokr_side(tensors: Mapping[str, Tensor], side: str) -> tuple[Tensor, Tensor]:
    whole = tensors.get(f"lokr_w{side}")
    if whole is None:
        core = tensors.get("lokr_t2") if side == "2" else None
        return _side(tensors[f"lokr_w{side}_a"], tensors[f"lokr_w{side}_b"], core)
    matrix = _matrix(whole)
    rows, columns = matrix.shape
    unit = torch.eye(min(rows, columns), dtype=matrix.dtype)
    return (unit, matrix) if rows < columns else (matrix, unit)


def _matrix(tensor: Tensor) -> Tensor:
    return tensor.flatten(1) if tensor.dim() > 2 else tensor
