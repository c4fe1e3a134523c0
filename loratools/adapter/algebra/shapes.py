"""Shapes and ranks of stored factors, from the header alone: what a difference looks like before it is read."""

from __future__ import annotations

import math
from collections.abc import Mapping

from loratools.errors import FormatError

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]


def limit(shape: Shape) -> int:
    """The highest rank that a difference of ``shape`` can have: min(out, in * kh * kw)."""
    return min(shape[0], math.prod(shape[1:]))


def layout(kind: str, shapes: Shapes, kernel: int) -> tuple[Shape, int]:
    """``(shape of the difference, columns of up)`` from the stored tensors' shapes alone.

    Args:
        kind: ``lora``, ``tucker``, ``loha``, ``lokr``, ``diff``, ``norm`` or ``set``.
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
    value = shapes["w_norm" if kind == "norm" else "set" if kind == "set" else "diff"]
    _require(bool(value) and 0 not in value, f"a difference of shape {value} is empty")
    return value, limit(value)


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


def _lora_layout(up: Shape, down: Shape) -> tuple[Shape, int]:
    _require(2 <= len(up) <= 5 and 2 <= len(down) <= 5, f"factors of shapes {up} and {down} are no matrices")
    _require(0 not in up and 0 not in down, f"factors of shapes {up} and {down} are empty")
    _require(up[1] == down[0], f"lora_up {up} has rank {up[1]} but lora_down {down} has rank {down[0]}")
    _require(all(size == 1 for size in up[2:]), f"lora_up {up} should be a 1x1 convolution")
    return (up[0], *down[1:]), down[0]


def _tucker_layout(up: Shape, down: Shape, mid: Shape) -> tuple[Shape, int]:
    _require(
        len(up) >= 2 and len(down) >= 2 and len(mid) == 4 and 0 not in (*up, *down, *mid),
        f"Tucker factors of shapes {up}, {mid} and {down} do not fit",
    )
    _require(
        up[1] == mid[0] and mid[1] == down[0] and math.prod((*up[2:], *down[2:])) == 1,
        f"lora_up {up}, lora_mid {mid} and lora_down {down} disagree over the rank",
    )
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
