"""Where the norm of a stack lies, and what changed from one stack to another, block by block."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from loratools.adapter.parallel import in_order
from loratools.blocks.scheme import NO_BLOCK, full_scheme
from loratools.library.terms import TermReading
from loratools.ops.merging.combine import combine
from loratools.ops.merging.merge import adapters_of
from loratools.ops.merging.one_model import warnings_of
from loratools.ops.merging.terms import Term


@dataclass(frozen=True)
class StackShares:
    """Share of each block of the squared norm, the norm, and what to mind."""

    shares: Mapping[str, float]
    norm: float
    warnings: tuple[str, ...]

    def json(self) -> dict[str, Any]:
        """As JSON values."""
        return {"shares": dict(self.shares), "norm": self.norm, "warnings": list(self.warnings)}


def stack_shares(text: str) -> tuple[StackShares, dict[str, float]]:
    """Shares of the merge string ``text``, and each block's squared norm.

    Raises:
        LoratoolsError: for a merge that cannot be made.
    """
    terms = TermReading().terms(text)
    squares = block_squares(terms)
    total = math.fsum(squares.values())
    shares = {name: square / total if total else 0.0 for name, square in squares.items()}
    return StackShares(shares, math.sqrt(total), warnings_of(adapters_of(terms))), squares


def heat(one: str, other: str) -> list[dict[str, Any]]:
    """By block: |other - one| over the root of |one|^2 + |other|^2, and the cosine of the two; the cosine is None where
    one of them is zero.

    Raises:
        LoratoolsError: for merges that cannot be made, or of different models.
    """
    a, b = TermReading().terms(one), TermReading().terms(other)
    first, second = block_squares(a), block_squares(b)
    between = block_squares([*b, *(replace(term, weight=-term.weight) for term in a)])
    rows = []
    for name, gap in between.items():
        x, y = first.get(name, 0.0), second.get(name, 0.0)
        both = math.sqrt(x * y)
        cosine = max(-1.0, min(1.0, (x + y - gap) / (2 * both))) if both else None
        change = math.sqrt(gap / (x + y)) if x + y else 0.0
        rows.append({"block": name, "change": change, "cosine": cosine})
    return rows


def block_squares(terms: list[Term]) -> dict[str, float]:
    """The squared Frobenius norm of the weighed sum, by block in the scheme's order; blocks without modules are left
    out."""
    whole = combine(terms)
    scheme = full_scheme(whole.family)

    def measure(name: str) -> tuple[str, float]:
        return name, whole[name].norm() ** 2

    squares: dict[str, float] = {}
    for name, square in in_order(measure, whole):
        block = scheme.block_of(name) or NO_BLOCK
        squares[block] = squares.get(block, 0.0) + square
    order = {name: place for place, name in enumerate(scheme.names)}
    return dict(sorted(squares.items(), key=lambda item: order.get(item[0], len(order))))
