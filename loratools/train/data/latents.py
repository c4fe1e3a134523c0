"""Images as latents: the VAE's posterior is kept as mean and deviation, and sampled anew at every use.

sd-scripts freezes one sample of the posterior in its cache, so that each image's noise becomes part of what is learnt.
The two moments cost twice the memory and train on the distribution that the base itself was trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from loratools.base.model import Base
from loratools.base.vae import encode
from loratools.errors import DatasetError
from loratools.train.data.dataset import Dataset, Sample
from loratools.train.data.latent_cache import LatentCache

_PIXELS_AT_ONCE = 4 * 512 * 512
_Key = tuple[int, bool]  # index of the item, whether mirrored


@dataclass(frozen=True)
class Moments:
    """Mean and standard deviation of the posterior, (b, 4, h, w) each in float32, not yet scaled."""

    mean: Tensor
    deviation: Tensor

    def cpu(self) -> Moments:
        """The same on the CPU."""
        return Moments(self.mean.cpu(), self.deviation.cpu())


class LatentStore:
    """The moments of every image (and of its mirror image, where its folder flips), on the CPU.

    Args:
        cache: keep what was encoded: in memory, or with "disk" in the dataset's ``cache_dir``. Without it every use is
            encoded again.
        progress: called with 1 for every image that :meth:`fill` encodes.
    """

    def __init__(self, base: Base, dataset: Dataset, *, cache: bool | Literal["disk"] = True) -> None:
        self._base, self._dataset, self._cache = base, dataset, bool(cache)
        self._disk = LatentCache(dataset.cache_dir, base.vae) if cache == "disk" and dataset.cache_dir else None
        self._known: dict[_Key, Moments] = {}
        self._masks: dict[_Key, Tensor] = {}  # not on disk: they may come from files of their own

    def fill(self, progress: Callable[[int], None] | None = None) -> None:
        """Encode everything now, in batches of one bucket; every image is decoded, so a broken one is found here."""
        wanted: dict[tuple[int, int], list[_Key]] = {}
        for index, item in enumerate(self._dataset.items):
            wanted.setdefault(item.bucket, []).extend((index, side) for side in self._dataset.sides(index))
        for bucket, keys in wanted.items():
            size = max(_PIXELS_AT_ONCE // (bucket[0] * bucket[1]), 1)
            size = min(size, 16)
            for start in range(0, len(keys), size):
                part = keys[start : start + size]
                self._keep([key for key in part if self._read(key) is None])
                self.masks([Sample(index, "", flipped) for index, flipped in part])
                if progress is not None:
                    progress(len(part))

    def count(self) -> int:
        """How many encodings :meth:`fill` makes."""
        return sum(len(self._dataset.sides(index)) for index in range(len(self._dataset.items)))

    def pixels(self, batch: Sequence[Sample]) -> Tensor | None:
        """The pictures of a batch, (b, 3, h, w) in -1..1, cut and coloured anew, where latents are not kept. Needs no
        device, so it can be done ahead of the step, and :meth:`encoded` then."""
        if self._cache:
            return None
        return torch.stack([_pixels(self._dataset.image(sample), sample.flipped) for sample in batch])

    def encoded(self, pixels: Tensor) -> Moments:
        """The moments of :meth:`pixels`, (b, 4, h, w) on the base's device."""
        posterior = encode(self._base.vae, pixels)
        return Moments(posterior.mean.float(), posterior.std.float())

    def moments(self, batch: Sequence[Sample]) -> Moments:
        """The moments of a batch of one bucket, (b, 4, h, w) on the CPU."""
        pixels = self.pixels(batch)
        if pixels is not None:
            return self.encoded(pixels).cpu()
        kept = [self._kept((sample.item, sample.flipped)) for sample in batch]
        return Moments(torch.stack([m.mean for m in kept]), torch.stack([m.deviation for m in kept]))

    def masks(self, batch: Sequence[Sample]) -> Tensor | None:
        """Weights of the loss in 0..1 at the latents' size, (b, 1, h, w); None in a run without any mask."""
        if not self._dataset.masked:
            return None
        return torch.stack([self._mask(sample) for sample in batch])

    def _mask(self, sample: Sample) -> Tensor:
        key = (sample.item, sample.flipped)
        known = self._masks.get(key) if self._cache else None
        if known is None:
            scale = self._base.vae_scale_factor
            bucket, mask = self._dataset.items[sample.item].bucket, self._dataset.mask(sample)
            whole = torch.ones(1, bucket[1] // scale, bucket[0] // scale)
            known = whole if mask is None else _at_latent_size(mask, scale, sample.flipped)
            if self._cache:
                self._masks[key] = known
        return known

    def _kept(self, key: _Key) -> Moments:
        known = self._read(key)
        if known is None:  # its file on disk has gone, or is broken, since it was filled
            self._keep([key])
            known = self._read(key)
        if known is None:
            path, folder = self._dataset.items[key[0]].path, self._dataset.cache_dir
            raise DatasetError(f"the latents of {path} cannot be kept in {folder}; set cache_latents: true for memory")
        return known

    def _read(self, key: _Key) -> Moments | None:
        if self._disk is None:
            return self._known.get(key)
        entry = self._disk.load(self._name(self._disk, key))
        return None if entry is None else Moments(*entry)

    def _keep(self, keys: Sequence[_Key]) -> None:
        if not keys:
            return
        samples = [Sample(index, "", flipped) for index, flipped in keys]
        pixels = torch.stack([_pixels(self._dataset.image(sample), sample.flipped) for sample in samples])
        moments = self.encoded(pixels).cpu()
        for row, key in enumerate(keys):
            mean, deviation = moments.mean[row].clone(), moments.deviation[row].clone()
            if self._disk is None:
                self._known[key] = Moments(mean, deviation)
            else:
                self._disk.store(self._name(self._disk, key), mean, deviation)

    def _name(self, disk: LatentCache, key: _Key) -> str:
        item = self._dataset.items[key[0]]
        interpolation = self._dataset.folders[item.folder].interpolation
        return disk.key(item.digest, bucket=item.bucket, flipped=key[1], interpolation=interpolation, crop="centre")


def _at_latent_size(mask: Image.Image, scale: int, flipped: bool) -> Tensor:
    """(1, h, w) in 0..1: the mean of each ``scale`` x ``scale`` pixels, mirrored if the picture is (as sd-scripts)."""
    values = torch.from_numpy(np.asarray(mask, dtype=np.float32).copy())[None] / 255
    pooled = torch.nn.functional.avg_pool2d(values, scale)
    return pooled.flip(-1) if flipped else pooled


def _pixels(image: Image.Image, flipped: bool) -> Tensor:
    """(3, h, w) in -1..1."""
    values = torch.from_numpy(np.asarray(image, dtype=np.float32).copy()).permute(2, 0, 1) / 127.5 - 1
    return values.flip(-1) if flipped else values
