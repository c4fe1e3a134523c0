"""Images as latents: the VAE's posterior is kept as mean and deviation, and sampled anew at every use.

sd-scripts freezes one sample of the posterior in its cache, so that each image's noise becomes part of what is learnt.
The two moments cost twice the memory and train on the distribution that the base itself was trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from loratools.base.model import Base
from loratools.train.dataset import Dataset, Item, Sample, open_image

_PIXELS_AT_ONCE = 4 * 512 * 512


@dataclass(frozen=True)
class Moments:
    """Mean and standard deviation of the posterior, (b, 4, h, w) each in float32, not yet scaled."""

    mean: Tensor
    deviation: Tensor

    def sample(self, noise: Tensor, scaling: float, shift: float = 0.0) -> Tensor:
        """(mean + deviation * noise - shift) * scaling: latents as the UNet knows them."""
        return (self.mean + self.deviation * noise - shift) * scaling


class LatentStore:
    """The moments of every image (and of its mirror image, where its folder flips), on the CPU.

    Args:
        cache: keep what was encoded in memory. Without it every use is encoded again.
        progress: called with 1 for every image that :meth:`fill` encodes.
    """

    def __init__(self, base: Base, dataset: Dataset, *, cache: bool = True) -> None:
        self._base, self._dataset, self._cache = base, dataset, cache
        self._known: dict[tuple[int, bool], Moments] = {}

    def fill(self, progress: Callable[[int], None] | None = None) -> None:
        """Encode everything now, in batches of one bucket; every image is decoded, so a broken one is found here."""
        wanted: dict[tuple[int, int], list[tuple[int, bool]]] = {}
        for index, item in enumerate(self._dataset.items):
            sides = (False, True) if self._dataset.folders[item.folder].flip else (False,)
            wanted.setdefault(item.bucket, []).extend((index, side) for side in sides)
        for bucket, keys in wanted.items():
            size = max(_PIXELS_AT_ONCE // (bucket[0] * bucket[1]), 1)
            size = min(size, 16)
            for start in range(0, len(keys), size):
                part = keys[start : start + size]
                moments = self._encode(part)
                for row, key in enumerate(part):
                    self._known[key] = Moments(moments.mean[row].clone(), moments.deviation[row].clone())
                if progress is not None:
                    progress(len(part))

    def count(self) -> int:
        """How many encodings :meth:`fill` makes."""
        return sum(1 + self._dataset.folders[item.folder].flip for item in self._dataset.items)

    def moments(self, batch: Sequence[Sample]) -> Moments:
        """The moments of a batch of one bucket, (b, 4, h, w)."""
        keys = [(sample.item, sample.flipped) for sample in batch]
        if not self._cache:
            return self._encode(keys)
        found = [self._known[key] for key in keys]
        return Moments(torch.stack([m.mean for m in found]), torch.stack([m.deviation for m in found]))

    @torch.no_grad()
    def _encode(self, keys: Sequence[tuple[int, bool]]) -> Moments:
        vae: Any = self._base.vae
        weight = next(vae.parameters())
        pixels = torch.stack([_pixels(self._dataset.items[index], flipped) for index, flipped in keys])
        posterior = vae.encode(pixels.to(weight.device, weight.dtype)).latent_dist
        return Moments(posterior.mean.float().cpu(), posterior.std.float().cpu())


def _pixels(item: Item, flipped: bool) -> Tensor:
    """(3, h, w) in -1..1."""
    values = torch.from_numpy(np.asarray(open_image(item), dtype=np.float32).copy()).permute(2, 0, 1) / 127.5 - 1
    return values.flip(-1) if flipped else values
