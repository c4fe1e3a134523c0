"""Adapters' factors on the device, uploaded once and balanced against half precision."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from loratools.adapter.algebra.factor_sum import Summand
from loratools.adapter.algebra.lowrank import Delta, LowRank
from loratools.base.patching.weight_writer import TensorCache, cache_bytes, upload_all

Wanted = tuple[str, Summand]  # a module, and the summand whose source's factors are meant


class FactorCache:
    """Down (r, in) and transposed up (r, out) of adapters' modules, in float32 on ``device``, without strength."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._cached = TensorCache(cache_bytes(device))

    def get(self, wanted: Sequence[Wanted]) -> list[tuple[Tensor, ...]]:
        """The factors of each of ``wanted``; those that lack are uploaded together."""
        keys = [(name, summand.key) for name, summand in wanted]
        known: dict[Hashable, tuple[Tensor, ...] | None] = {key: self._cached.get(key) for key in keys}
        lacking = {key: own for key, own in zip(keys, wanted, strict=True) if known[key] is None}
        parts = upload_all([_factors(summand.source[name]) for name, summand in lacking.values()], self._device)
        for key, balanced in zip(lacking, _balanced(parts), strict=True):
            self._cached.put(key, balanced)
            known[key] = balanced
        return [pair for key in keys if (pair := known[key]) is not None]

    def clear(self) -> None:
        """Free everything; it can be uploaded again."""
        self._cached.clear()


def _factors(delta: Delta) -> tuple[Tensor, Tensor]:
    """down (r, in) and up (out, r)."""
    if not isinstance(delta, LowRank):
        raise TypeError("a full difference has no branch; BatchedLora.fits() says so")
    return delta.down, delta.up


def _balanced(parts: Sequence[tuple[Tensor, ...]]) -> list[tuple[Tensor, Tensor]]:
    """Each down (r, in) and up (out, r) as down and transposed up (r, out), each component scaled by a power of two so
    that both factors have about the same magnitude: half precision then loses nothing that matters. Modules of one
    shape share their launches."""
    by_shape: dict[Hashable, list[int]] = {}
    for n, (down, up) in enumerate(parts):
        by_shape.setdefault((down.shape, up.shape), []).append(n)
    balanced: dict[int, tuple[Tensor, Tensor]] = {}
    for same in by_shape.values():
        downs, ups = torch.stack([parts[n][0] for n in same]), torch.stack([parts[n][1].mT for n in same])
        largest = [side.abs().amax(2, keepdim=True) for side in (downs, ups)]
        down_exponent, up_exponent = (torch.frexp(each).exponent for each in largest)
        shift = torch.where((largest[0] == 0) | (largest[1] == 0), 0, (up_exponent - down_exponent) // 2)
        balanced |= dict(zip(same, zip(torch.ldexp(downs, shift), torch.ldexp(ups, -shift), strict=True), strict=True))
    return [balanced[n] for n in range(len(parts))]
