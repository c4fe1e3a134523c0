"""Every additive kind of adapter, lowered exactly to factors: Tucker LoCon, LoHa, LoKr and full differences.

``s = alpha / rank`` is folded in here, once. Formulas: LyCORIS (Yeh et al., 2309.14859); LoHa is FedPara (2108.06098).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from loratools.adapter.lowrank import Delta, Dense, LowRank, Vector
from loratools.errors import FormatError

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]


def layout(kind: str, shapes: Shapes, kernel: int) -> tuple[Shape, int]:
    """``(shape of the difference, columns of up)`` from the stored tensors' shapes alone.

    Args:
        kind: ``lora``, ``tucker``, ``loha``, ``lokr`` or ``diff``.
        shapes: shape of each role's tensor.
        kernel: 3 for a 3x3 convolution, whose flattened factors do not tell it; else 1.
    Raises:
        FormatError: if the factors do not fit each other; the message lacks the file and module, which the caller adds.
    """
    match kind:
        case "lora":
            return _lora_layout(shapes["up"], shapes["down"])
        case "tucker":
            return _tucker_layout(shapes["up"], shapes["down"], shapes["mid"])
        case "loha":
            return _loha_layout(shapes, kernel)
        case "lokr":
            return _lokr_layout(shapes, kernel)
    value = shapes["diff"]
    _require(bool(value) and 0 not in value, f"a difference of shape {value} is empty")
    return value, min(value[0], math.prod(value[1:]))


def scale_rank(kind: str, shapes: Shapes) -> int | None:
    """The rank that alpha is divided by, or None where alpha does not apply (full factors)."""
    match kind:
        case "lora" | "tucker":
            return shapes["down"][0]
        case "loha":
            return shapes["w1_b"][0]
        case "lokr":
            low = shapes.get("lokr_w2_b", shapes.get("lokr_w1_b"))
            return low[0] if low else None
    return None


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
    value = tensors["diff"]
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


def _lora_layout(up: Shape, down: Shape) -> tuple[Shape, int]:
    _require(len(up) in (2, 4) and len(down) in (2, 4), f"factors of shapes {up} and {down} are no matrices")
    _require(0 not in up and 0 not in down, f"factors of shapes {up} and {down} are empty")
    _require(up[1] == down[0], f"lora_up {up} has rank {up[1]} but lora_down {down} has rank {down[0]}")
    _require(all(size == 1 for size in up[2:]), f"lora_up {up} should be a 1x1 convolution")
    return (up[0], *down[1:]), down[0]


def _tucker_layout(up: Shape, down: Shape, mid: Shape) -> tuple[Shape, int]:
    _require(len(up) >= 2 and len(down) >= 2 and len(mid) == 4 and 0 not in (*up, *down, *mid),
             f"Tucker factors of shapes {up}, {mid} and {down} do not fit")  # fmt: skip
    _require(up[1] == mid[0] and mid[1] == down[0] and math.prod((*up[2:], *down[2:])) == 1,
             f"lora_up {up}, lora_mid {mid} and lora_down {down} disagree over the rank")  # fmt: skip
    return (up[0], down[1], *mid[2:]), mid[0]


def _loha_layout(shapes: Shapes, kernel: int) -> tuple[Shape, int]:
    sides = [_side_layout(shapes[f"w{n}_a"], shapes[f"w{n}_b"], shapes.get(f"t{n}"), kernel) for n in "12"]
    (shape, rank), (other, other_rank) = sides
    _require(shape == other, f"the two LoHa halves have shapes {shape} and {other}")
    return shape, rank * other_rank


def _lokr_layout(shapes: Shapes, kernel: int) -> tuple[Shape, int]:
    (first, rank1), (second, rank2) = (_lokr_side_layout(shapes, side, kernel) for side in "12")
    shape = (first[0] * second[0], first[1] * second[1], *second[2:])
    return shape, min(rank1 * rank2, shape[0], math.prod(shape[1:]))


def _lokr_side_layout(shapes: Shapes, side: str, kernel: int) -> tuple[Shape, int]:
    whole = shapes.get(f"lokr_w{side}")
    if whole is None:
        a, b = shapes[f"lokr_w{side}_a"], shapes.get(f"lokr_w{side}_b")
        _require(b is not None, f"lokr_w{side}_a has no lokr_w{side}_b")
        core = shapes.get("lokr_t2") if side == "2" else None
        return _side_layout(a, b or (), core, kernel if side == "2" else 1)
    _require(len(whole) in (2, 4) and 0 not in whole, f"lokr_w{side} of shape {whole} is no matrix")
    return whole, min(whole[0], math.prod(whole[1:]))


def _side_layout(a: Shape, b: Shape, core: Shape | None, kernel: int) -> tuple[Shape, int]:
    _require(len(a) == 2 and len(b) == 2 and 0 not in (*a, *b), f"factors of shapes {a} and {b} are no matrices")
    if core is not None:
        _require(len(core) == 4 and core[0] == a[0] and core[1] == b[0], f"factors {a}, {core} and {b} do not fit")
        return (a[1], b[1], *core[2:]), a[0]
    _require(a[1] == b[0], f"factors of shapes {a} and {b} disagree over the rank")
    area = kernel * kernel
    _require(b[1] % area == 0, f"a factor of shape {b} is no {kernel}x{kernel} convolution's")
    return ((a[0], b[1]) if kernel == 1 else (a[0], b[1] // area, kernel, kernel)), a[1]


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise FormatError(message)
