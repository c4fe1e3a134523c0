"""The leading singular triplets of a full matrix by random projection, checked, or by a thin SVD where that fails.

Halko, Martinsson and Tropp, "Finding structure with randomness" (0909.4061), algorithms 4.4 and 5.1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from loratools.adapter.algebra.rank import Spectrum

_MORE = 8  # oversampling
_PASSES = 2  # power iterations
_PROBES, _CHECKS = 4, 3
_SLACK = 1.1  # a residual whose norm is above this times the last singular value kept has missed a direction
_FLOOR = 1e-6  # of the first singular value: below it float32's products say nothing


def leading(matrix: Tensor, count: int, shape: tuple[int, ...], *, seed: int) -> Spectrum:
    """At least the first ``count`` singular triplets of ``matrix`` (out, n), or all of them.

    A seeded sketch of ``count`` + 8 columns with two power iterations in float32, then float64; its residual's
    spectral norm is estimated, and a sketch that missed something gives way to a thin SVD.

    Args:
        matrix: (out, n), float32.
        shape: what the difference is seen as.
        seed: the same seed gives the same result.
    """
    smaller = min(matrix.shape)
    width = min(count + _MORE, smaller)
    if 2 * width >= smaller:
        return thin(matrix, shape)
    generator = torch.Generator().manual_seed(seed)
    basis = _range(matrix, torch.randn(matrix.shape[1], width, generator=generator))
    precise = matrix.double()
    right, core = torch.linalg.qr(precise.T @ basis)
    u, s, v = torch.linalg.svd(core.T, full_matrices=False)
    if _missed(matrix, basis.float(), float(s[count - 1]), float(s[0]), generator):
        return thin(matrix, shape)
    return Spectrum((basis @ u)[:, :count], s[:count], (v @ right.T)[:count], shape)


def thin(matrix: Tensor, shape: tuple[int, ...]) -> Spectrum:
    """The whole SVD of a full matrix in float64, never with square factors."""
    u, s, v = torch.linalg.svd(matrix.double(), full_matrices=False)
    return Spectrum(u, s, v, shape)


def _range(matrix: Tensor, random: Tensor) -> Tensor:
    basis = matrix @ random
    for _ in range(_PASSES):
        other = torch.linalg.qr(matrix.T @ torch.linalg.qr(basis).Q).Q
        basis = matrix @ other
    orthonormal: Tensor = torch.linalg.qr(basis.double()).Q
    return orthonormal


def _missed(matrix: Tensor, basis: Tensor, last: float, first: float, generator: torch.Generator) -> bool:
    """Whether a direction outside ``basis`` is longer than the last one kept, by power iteration on the residual."""
    probe = torch.randn(matrix.shape[1], _PROBES, generator=generator)
    norm = 0.0
    for _ in range(_CHECKS):
        probe = torch.linalg.qr(probe).Q
        image = matrix @ probe
        image = image - basis @ (basis.T @ image)
        norm = max(norm, float(torch.linalg.matrix_norm(image, 2)))
        probe = matrix.T @ image
    return norm > max(_SLACK * last, _FLOOR * first)
