"""DoRA (2402.09353): a weight kept as magnitude and direction, whose difference depends on the base weight."""

from __future__ import annotations

import torch
from torch import Tensor

from loratools.adapter.algebra.lowrank import Dense
from loratools.errors import ShapeError


def difference(weight: Tensor, direction: Tensor, magnitude: Tensor, *, per_output: bool) -> Dense:
    """``m * (W + s D) / |W + s D| - W``, computed in float64.

    Args:
        weight: W, (out, in[, kh, kw]).
        direction: s D in the same shape.
        magnitude: m. Its shape tells the norm's axis: (out, 1[, 1, 1]) a norm for each output row, (1, in[, 1, 1]) one
            for each input column.
        per_output: whether it is one number an output row whatever its shape, as PEFT writes it.
    Raises:
        ShapeError: if it is neither.
    """
    base = weight.double().reshape(direction.shape)
    moved = base + direction.double()
    rows, columns = moved.shape[0], moved.shape[1]
    ones = (1,) * (moved.dim() - 2)
    if per_output or (magnitude.dim() > 1 and magnitude.shape[0] == rows and magnitude.numel() == rows):
        _require(magnitude.numel() == rows, magnitude, moved)
        norm = moved.flatten(1).norm(dim=1).reshape(rows, 1, *ones)
        scale = magnitude.double().reshape(rows, 1, *ones)
    else:
        _require(magnitude.numel() == columns and magnitude.shape[-1 - len(ones)] == columns, magnitude, moved)
        norm = moved.transpose(0, 1).flatten(1).norm(dim=1).reshape(1, columns, *ones)
        scale = magnitude.double().reshape(1, columns, *ones)
    return Dense((scale * moved / norm.clamp_min(torch.finfo(torch.float64).tiny) - base).float())


def _require(condition: bool, magnitude: Tensor, moved: Tensor) -> None:
    if not condition:
        raise ShapeError(f"a DoRA magnitude of shape {tuple(magnitude.shape)} fits no axis of {tuple(moved.shape)}")
