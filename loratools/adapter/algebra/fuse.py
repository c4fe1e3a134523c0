"""Cutting a stored difference into the rows of its modules, and joining such rows again: exact both ways.

Which rows those are says :mod:`.fused_rows`, apart from this because describing a header must not import torch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from loratools.adapter.algebra.fused_rows import Rows
from loratools.adapter.algebra.lowrank import Delta, Dense, LowRank, Vector


def cut(delta: Delta, rows: Rows) -> Delta:
    """Some rows of a difference: rows of ``up``, with ``down`` shared."""
    if rows == ((0, delta.shape[0]),):
        return delta
    match delta:
        case LowRank():
            return cut_factors(delta, rows)
        case Vector():
            return Vector(take(delta.value, rows))
    return Dense(take(delta.value, rows))


def cut_factors(delta: LowRank, rows: Rows) -> LowRank:
    """:func:`cut` of factors, which keeps what is known of them where all rows are meant."""
    if rows == ((0, delta.shape[0]),):
        return delta
    up = take(delta.up, rows)
    return LowRank(up, delta.down, (up.shape[0], *delta.shape[1:]))


def take(tensor: Tensor, rows: Rows) -> Tensor:
    """The ranges of rows, one after the other."""
    pieces = [tensor[start:end] for start, end in rows]
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces)


def join(parts: Sequence[tuple[Rows, Delta]], shape: tuple[int, ...]) -> Delta:
    """The difference of ``shape`` with each part at its rows, and zeros where no part is.

    Low-rank parts that share one ``down`` stay at its rank; others stand side by side, ``up`` block-diagonal.
    """
    factors = [(rows, delta) for rows, delta in parts if isinstance(delta, LowRank)]
    if len(factors) < len(parts):
        whole = torch.zeros(shape, dtype=torch.float32)
        for rows, delta in parts:
            put(whole, rows, delta.dense(torch.float32).reshape(-1, *shape[1:]))
        return Vector(whole) if len(shape) == 1 else Dense(whole)
    shared = same_down([delta for _, delta in factors])
    rank = factors[0][1].rank if shared else sum(delta.rank for _, delta in factors)
    up, start = torch.zeros(shape[0], rank, dtype=factors[0][1].up.dtype), 0
    for rows, delta in factors:
        put(up[:, start : start + delta.rank], rows, delta.up)
        start += 0 if shared else delta.rank
    down = factors[0][1].down if shared else torch.cat([delta.down for _, delta in factors])
    return LowRank(up, down, shape)


def same_down(deltas: Sequence[LowRank]) -> bool:
    """Whether all have the very same ``down``."""
    first = deltas[0].down
    return all(delta.down is first or torch.equal(delta.down, first) for delta in deltas[1:])


def put(whole: Tensor, rows: Rows, part: Tensor) -> None:
    """Write ``part``'s rows, in their order, into these ranges of rows of ``whole``."""
    start = 0
    for first, last in rows:
        whole[first:last] = part[start : start + last - first]
        start += last - first
