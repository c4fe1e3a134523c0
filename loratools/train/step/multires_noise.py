"""Multi-resolution noise: white noise of ever coarser grids on top of each other (Whitaker 2023), as one fixed graph.

Each grid's size is random, but a captured CUDA graph needs fixed shapes. So each grid is drawn at the largest size it
could have, a corner of ``rows`` rows of it is used, and enlarging is a product with a matrix of bilinear weights that
depends on ``rows``. The numbers are independent, so a corner of a larger grid is distributed like a grid of its own.
"""

from __future__ import annotations

import torch
from torch import Tensor


def multires(noise: Tensor, iterations: int, discount: float, generator: torch.Generator) -> Tensor:
    """``noise`` (b, c, h, w) plus ``iterations`` grids, level i enlarged by r_i^i and scaled by discount^i; unit std.

    r_i is uniform in [2, 4), one for the whole batch. Levels after one with a single row or column are left out. The
    result is divided by its standard deviation over the batch.
    """
    batch, channels, high, wide = noise.shape
    device = noise.device
    ratios = 2 + 2 * torch.rand(iterations, generator=generator, device=device)
    goes_on = torch.ones((), device=device)
    for level in range(iterations):
        most = (max(1, high >> level), max(1, wide >> level))
        grid = torch.randn((batch, channels, *most), generator=generator, device=device)
        rows, columns = (
            side.floor().clamp(min=1) for side in (high / ratios[level] ** level, wide / ratios[level] ** level)
        )
        noise = noise + goes_on * discount**level * enlarged(grid, rows, columns, (high, wide))
        goes_on = goes_on * (rows > 1) * (columns > 1)
        if 1 in most:
            break
    return noise / noise.std()


def enlarged(grid: Tensor, rows: Tensor, columns: Tensor, size: tuple[int, int]) -> Tensor:
    """The corner of ``rows`` x ``columns`` (0-dim tensors) of ``grid`` (b, c, h', w'), bilinearly at ``size`` (h, w).

    Equal to ``interpolate(grid[..., :rows, :columns], size, mode="bilinear")``.
    """
    tall, broad = (_hats(size[0], rows, grid.shape[-2]), _hats(size[1], columns, grid.shape[-1]))
    return tall @ grid @ broad.mT


def _hats(outputs: int, count: Tensor, most: int) -> Tensor:
    """(outputs, most): the share of each of the first ``count`` samples in each output."""
    place = (torch.arange(outputs, device=count.device) + 0.5) * (count / outputs) - 0.5
    place = place.clamp(min=0).minimum(count - 1)
    return (1 - (place[:, None] - torch.arange(most, device=count.device)).abs()).clamp(min=0)
