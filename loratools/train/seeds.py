"""Random generators that are seeded by what they are used for, so that no random draw depends on the ones before it.

A resumed run therefore draws what an uninterrupted one would have drawn, with no generator state to save.
"""

from __future__ import annotations

import hashlib

import torch


def derived(seed: int, *names: object) -> int:
    """A 63-bit seed that is a function of ``seed`` and ``names``."""
    text = "/".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *names: object) -> torch.Generator:
    """A CPU generator for one purpose, such as ``generator(seed, "noise", step)``."""
    return torch.Generator().manual_seed(derived(seed, *names))
