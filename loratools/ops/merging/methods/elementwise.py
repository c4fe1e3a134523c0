"""TIES, DARE, Model Breadcrumbs and KnOTS: methods that keep, drop and average entries of matrices.

All take matrices of one shape with their weights multiplied in; entries are compared within one module.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import torch
from torch import Tensor

_ROUND = 1e-9  # of an entry: what binary fractions such as 0.1 x 10 are off by
_SUPPORTED = 1e-10  # of the largest singular value: what is under it is rounding


def ties(matrices: Sequence[Tensor], density: float) -> Tensor:
    """TIES (Yadav et al., 2306.01708): trim each matrix to its largest entries, elect a sign for each place, and
    average what agrees with it.

    Args:
        density: the part of each matrix's entries that takes part, at least one entry.
    """
    trimmed = torch.stack([_trimmed(matrix, density) for matrix in matrices])
    elected = torch.sign(trimmed.sum(0))
    agreeing = torch.where(torch.sign(trimmed) == elected, trimmed, 0.0)
    return agreeing.sum(0) / (agreeing != 0).sum(0).clamp(min=1)


def dare(matrices: Sequence[Tensor], density: float, seed: int, draws: Sequence[str]) -> Tensor:
    """DARE (Yu et al., 2311.03099): keep each entry with probability ``density``, divide by it, and sum.

    The expectation is the sum, and the expected squared distance ``(1 - density) / density * sum |m_i|^2``.

    Args:
        draws: one text for each matrix, by which with ``seed`` its draw is determined, on every machine.
    """
    total = torch.zeros_like(matrices[0])
    for matrix, draw in zip(matrices, draws, strict=True):
        number = int.from_bytes(hashlib.sha256(f"{seed}\n{draw}".encode()).digest()[:7], "little")
        random = torch.Generator().manual_seed(number)
        kept = torch.rand(matrix.shape, generator=random, dtype=torch.float64) < density
        total += torch.where(kept, matrix, 0.0) / density
    return total


def breadcrumbs(matrices: Sequence[Tensor], density: float, gamma: float) -> Tensor:
    """Model Breadcrumbs (Davari and Belilovsky, 2312.06795): of each matrix drop the ``gamma`` largest entries and keep
    the next ``density``; sum."""
    return torch.stack([_without_extremes(matrix, density, gamma) for matrix in matrices]).sum(0)


def knots(matrices: Sequence[Tensor], density: float) -> Tensor:
    """KnOTS (Stoica et al., 2410.19735): one SVD ``U S [V_1 ... V_n]`` of the matrices side by side, TIES over the
    ``S V_i`` (as in the authors' program), and back by ``U``."""
    u, s, v = torch.linalg.svd(torch.cat(list(matrices), 1), full_matrices=False)
    supported = s > _SUPPORTED * s[0]
    sides = (s[supported, None] * v[supported]).split(matrices[0].shape[1], dim=1)
    return u[:, supported] @ ties(sides, density) if bool(supported.any()) else torch.zeros_like(matrices[0])


def _trimmed(matrix: Tensor, density: float) -> Tensor:
    kept = math.ceil(density * matrix.numel())
    if kept >= matrix.numel():
        return matrix
    threshold = matrix.abs().flatten().kthvalue(matrix.numel() - kept + 1).values
    return torch.where(matrix.abs() >= threshold, matrix, 0.0)


def _without_extremes(matrix: Tensor, density: float, gamma: float) -> Tensor:
    count = matrix.numel()
    largest = math.floor(gamma * count + _ROUND)
    kept = min(math.ceil(density * count - _ROUND), count - largest)
    order = matrix.abs().flatten().argsort(descending=True, stable=True)
    mask = torch.zeros(count, dtype=torch.bool)
    mask[order[largest : largest + kept]] = True
    return torch.where(mask.reshape(matrix.shape), matrix, 0.0)
