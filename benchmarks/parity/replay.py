"""The same random numbers twice: those that our draws took are noted, then handed to sd-scripts' code as it asks."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch
from torch import Tensor


class Recorder:
    """What ``torch.randn`` and ``torch.rand`` gave, in order; ``timesteps`` is set by the caller."""

    def __init__(self) -> None:
        self._normal: list[Tensor] = []
        self._uniform: list[Tensor] = []
        self.timesteps = torch.zeros(0, dtype=torch.int64)

    @contextlib.contextmanager
    def noting(self) -> Iterator[None]:
        """Note every draw inside the block."""

        def noted(make: Any, into: list[Tensor]) -> Any:
            def draw(*shape: Any, **options: Any) -> Tensor:
                made: Tensor = make(*shape, **options)
                into.append(made.clone())
                return made

            return draw

        with (
            mock.patch("torch.randn", noted(torch.randn, self._normal)),
            mock.patch("torch.rand", noted(torch.rand, self._uniform)),
        ):
            yield

    @contextlib.contextmanager
    def replaying(self, options: Any) -> Iterator[None]:
        """Hand the numbers to sd-scripts' draws under its ``options``.

        Ours are drawn as noise, offset, posterior, grids, perturbation; the posterior has no counterpart there.
        """
        normal, uniform = list(self._normal), list(self._uniform)
        full = [normal.pop(0)]
        offset = [normal.pop(0)] if options.noise_offset else []
        normal.pop(0)  # the posterior
        if options.ip_noise_gamma:
            full.append(normal.pop())
        share = [uniform.pop(0)] if options.noise_offset and options.noise_offset_random_strength else []
        ratios = uniform.pop(0).tolist() if options.multires_noise_iterations else []
        share += uniform
        grids = offset + normal

        def corner(*shape: Any, **_: Any) -> Tensor:
            batch, channels, rows, columns = shape[0] if len(shape) == 1 else shape
            drawn = grids.pop(0)
            if drawn.shape[:2] != (batch, channels) or drawn.shape[2] < rows or drawn.shape[3] < columns:
                raise SystemExit(f"sd-scripts draws {shape}, ours drew {tuple(drawn.shape)}")
            return drawn[..., :rows, :columns].clone()

        with (
            mock.patch("torch.randn_like", lambda *_, **__: full.pop(0).clone()),
            mock.patch("torch.randn", corner),
            mock.patch("torch.rand", lambda *_, **__: share.pop(0).clone()),
            mock.patch.object(random, "random", lambda: ratios.pop(0)),
        ):
            yield
