"""An exponential moving average of the trained weights, which is saved in their place when a run asks for it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor


class Ema:
    """Exponential moving average of ``factors``: mean <- mean + (1 - d) (factor - mean) after every step, in float32.

    d is ``min(decay, (1 + step) / (10 + step))``, so that the first steps, whose factors are still near 0, soon
    fade (as in TensorFlow's ExponentialMovingAverage with its step count).
    """

    def __init__(self, factors: Sequence[Tensor], decay: float) -> None:
        self._factors, self._decay = list(factors), decay
        self._means = [factor.detach().to(torch.float32, copy=True) for factor in factors]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Update the averages after optimiser step ``step`` (from 1); does not wait for the device."""
        decay = min(self._decay, (1 + step) / (10 + step))
        if all(factor.dtype == torch.float32 for factor in self._factors):
            torch._foreach_lerp_(self._means, [factor.detach() for factor in self._factors], 1 - decay)
            return
        for mean, factor in zip(self._means, self._factors, strict=True):  # one by one: no wider copy of all of them
            mean.lerp_(factor.detach().float(), 1 - decay)

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Inside the block the factors hold their averages; afterwards they are as they were, bit for bit."""
        kept = [factor.detach().clone() for factor in self._factors]
        try:
            _copy(self._factors, self._means)
            yield
        finally:
            _copy(self._factors, kept)

    def mean(self, factor: Tensor) -> Tensor:
        """The average of one of the factors, in float32, which its own type may not hold."""
        return next(mean for own, mean in zip(self._factors, self._means, strict=True) if own is factor)

    def state(self) -> list[Tensor]:
        """The averages, for resuming."""
        return [mean.cpu().clone() for mean in self._means]

    def load(self, state: Sequence[Tensor]) -> None:
        """Set the averages to what :meth:`state` returned."""
        _copy(self._means, state)


@torch.no_grad()
def _copy(into: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for target, value in zip(into, values, strict=True):
        target.copy_(value)
