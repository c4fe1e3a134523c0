"""Iso-C and TSV-M: methods over singular values and vectors, which are the same in the core space as outside it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

_RANK = 1e-10  # of the largest singular value: what is under it is no direction of a LoRA, but rounding
_SHARED = 1e-6  # singular values of unit vectors side by side: under it, a direction is another's copy


def iso_c(matrices: Sequence[Tensor], floor: float) -> Tensor:
    """Iso-C (Marczak et al., 2502.04959): the sum with every singular value set to their mean.

    The mean is over the sum's own rank, as in the core space of 2509.17786; over all min(out, in) values, most of them
    0 for LoRAs, the result would only be weaker.

    Args:
        floor: singular values up to this part of the largest are left out.
    """
    u, s, v = torch.linalg.svd(torch.stack(list(matrices)).sum(0), full_matrices=False)
    lives = (s > max(floor, _RANK) * s[0]) & (s > 0)
    if not bool(lives.any()):
        return torch.zeros_like(matrices[0])
    flat: Tensor = u[:, lives] @ v[lives] * s[lives].mean()
    return flat


def tsv_m(matrices: Sequence[Tensor], keep: float) -> Tensor:
    """TSV-M (Gargiulo et al., 2412.00081): ``U' S V'`` with the singular vectors of all matrices side by side, each
    side replaced by the nearest orthonormal set (``P Q^T`` of its SVD ``P D Q^T``).

    Args:
        keep: the part of each matrix's rank, largest singular values first. Where all that is kept is more than the
            shape holds, each takes an equal part, as in the paper.
    """
    known = [torch.linalg.svd(matrix, full_matrices=False) for matrix in matrices]
    ranks = [int(((s > _RANK * s[0]) & (s > 0)).sum()) for _, s, _ in known]
    counts = [math.ceil(keep * rank) for rank in ranks]
    highest = min(matrices[0].shape)
    if sum(counts) > highest:
        counts = [min(count, max(highest // len(counts), 1)) for count in counts]
    if sum(counts) == 0:
        return torch.zeros_like(matrices[0])
    values = torch.cat([s[:count] for (_, s, _), count in zip(known, counts, strict=True)])
    left = _orthonormal(torch.cat([u[:, :count] for (u, _, _), count in zip(known, counts, strict=True)], 1))
    right = _orthonormal(torch.cat([v[:count].T for (_, _, v), count in zip(known, counts, strict=True)], 1))
    return (left * values) @ right.T


def _orthonormal(vectors: Tensor) -> Tensor:
    """The orthonormal columns nearest to ``vectors``; where columns depend on others, a part of each."""
    p, d, q = torch.linalg.svd(vectors, full_matrices=False)
    own = d > _SHARED
    nearest: Tensor = p[:, own] @ q[own]
    return nearest
