"""Where noise comes from: a function of seed and size, the same on every machine and in every picture of a grid.

==============  =======================================================================================================
``own``         torch's CPU generator, one for every picture; the default
``webui-cpu``   the WebUI's ``RNG: CPU``, which draws the same numbers
``webui-gpu``   the WebUI's ``RNG: GPU`` and ``NV``: what torch draws on an NVIDIA card, computed on the CPU
==============  =======================================================================================================

The two of the WebUI also step through its noise levels (:mod:`loratools.base.sampling.sigmas`), without which the
same numbers make another picture.

CUDA's generator is Philox 4x32-10 (Salmon, Moraes, Dror and Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3"):
ten rounds of multiplications turn a counter and a key into four random words. Torch gives number i of a tensor the
counter (draw, 0, i, 0) under the seed as key, as long as a card has a thread for every number (some 100,000), and makes
a normal number of its first two words by Box and Muller's method.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from loratools.base.picture_size import USUAL_SCALE_FACTOR, latent_shape
from loratools.base.sampling.brownian import BrownianPath, BrownianTree
from loratools.base.sampling.noise_kinds import OWN

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)

Stream = Callable[[Sequence[int]], Tensor]


def initial_latents(kind: str, seed: int, size: tuple[int, int], scale_factor: int = USUAL_SCALE_FACTOR) -> Tensor:
    """The starting latents (1, 4, height / factor, width / factor) of a seed, float32, standard normal.

    Args:
        kind: one of :data:`loratools.base.sampling.noise_kinds.NOISE_KINDS`.
        size: (height, width) in pixels.
        scale_factor: the VAE's.
    """
    return noise_stream(kind, seed)(latent_shape(size, scale_factor))


def pooled_noise(latents: Tensor, size: tuple[int, int], scale_factor: int = USUAL_SCALE_FACTOR) -> Tensor:
    """Noise for a smaller picture that is like the larger one's: means over areas of it, of unit deviation again.

    Where the sides are whole multiples, the areas are apart and the result is standard normal; else neighbours share
    some of it.

    Args:
        latents: (1, 4, h, w) standard normal noise.
        size: (height, width) of the smaller picture, in pixels.
    """
    small = torch.nn.functional.adaptive_avg_pool2d(latents, latent_shape(size, scale_factor)[2:])
    return small / small.std()


def noise_stream(kind: str, seed: int) -> Stream:
    """A seed's normal numbers, tensor by tensor: shape -> float32."""
    if kind == "webui-gpu":
        return Philox(seed).normal
    generator = torch.Generator("cpu").manual_seed(seed)
    return lambda shape: torch.randn(tuple(shape), generator=generator)


def step_noise(
    kind: str, seeds: Sequence[int], shape: Sequence[int], ends: tuple[float, float] | None
) -> Callable[[float, float], Tensor]:
    """What the samplers of :mod:`~loratools.base.sampling.k_samplers` add on the way from one noise level to another:
    (b, 4, h, w) of unit deviation, each picture's of its own seed.

    Args:
        shape: (4, h, w), of one picture's latents.
        ends: the lowest and the highest level of a Brownian path; None for draws that do not depend on one another,
            each continuing where :func:`initial_latents` stopped.
    """
    sources: list[Callable[[float, float], Tensor]] = []
    whole = (1, *shape)
    for seed in seeds:
        if ends is not None and kind != OWN:
            sources.append(BrownianTree(seed, *ends, lambda word: noise_stream(kind, word)(whole)))
            continue
        numbers = noise_stream(kind, seed)
        numbers(whole)  # those of the initial latents
        draw = partial(numbers, whole)
        sources.append(partial(_independent, draw) if ends is None else BrownianPath(draw))
    return lambda sigma, sigma_next: torch.cat([source(sigma, sigma_next) for source in sources])


def _independent(draw: Callable[[], Tensor], sigma: float, sigma_next: float) -> Tensor:
    return draw()


class Philox:
    """The normal numbers of one seed, as torch draws them on an NVIDIA card; every tensor is a draw of its own."""

    def __init__(self, seed: int) -> None:
        self._key = np.array([seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF], dtype=np.uint64)
        self._draws = 0

    def normal(self, shape: Sequence[int]) -> Tensor:
        """The next tensor of ``shape``, float32."""
        count = math.prod(shape)
        counter = np.zeros((4, count), dtype=np.uint64)
        counter[0], counter[2] = self._draws, np.arange(count)
        self._draws += 1
        words = philox(counter, self._key)
        return torch.from_numpy(_box_muller(words[0], words[1])).reshape(tuple(shape))


def philox(counter: np.ndarray, key: np.ndarray) -> np.ndarray:
    """Philox 4x32 with ten rounds: 32-bit words (4, n) and a key (2,), all held in uint64, -> words (4, n)."""
    a, b, c, d = counter
    left, right = (int(word) for word in key)
    for _ in range(10):
        first, second = a * _MULTIPLIERS[0], c * _MULTIPLIERS[1]
        a, b, c, d = (
            (second >> _HALF) ^ b ^ np.uint64(left),
            second & _LOW,
            (first >> _HALF) ^ d ^ np.uint64(right),
            first & _LOW,
        )
        left, right = (left + _WEYL[0]) & 0xFFFFFFFF, (right + _WEYL[1]) & 0xFFFFFFFF
    return np.stack([a, b, c, d])


def _box_muller(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """One normal number of two words, with cuRAND's constants: each word stands for the middle of its interval."""
    one = np.float32(2**-32)
    radius = first.astype(np.float32) * one + one / np.float32(2)
    turn = np.float32(2**-32 * 2 * math.pi)
    angle = second.astype(np.float32) * turn + turn / np.float32(2)
    made: np.ndarray = (np.sqrt(np.float32(-2) * np.log(radius)) * np.sin(angle)).astype(np.float32)
    return made


class SeededDraws(TorchFunctionMode):
    """For schedulers of diffusers that draw noise at each step and accept only torch's generators: inside the block,
    ``torch.randn`` with one of :attr:`generators` gives the next numbers of that picture's seed, continuing where
    :func:`initial_latents` stopped.

    Schedulers ask for numbers in the dtype that they compute in. In half precision some versions of torch draw other
    numbers of a seed, so these are always drawn in float32; a generator only identifies its picture.

    Args:
        shape: (4, h, w), of one picture's latents; None where the initial latents are drawn inside the block too.
    """

    def __init__(self, kind: str, seeds: Sequence[int], shape: Sequence[int] | None = None) -> None:
        super().__init__()
        self.generators = [torch.Generator("cpu") for _ in seeds]
        self._streams = {id(own): noise_stream(kind, seed) for own, seed in zip(self.generators, seeds, strict=True)}
        if shape is not None:
            for numbers in self._streams.values():
                numbers((1, *shape))  # those of the initial latents

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        numbers = self._streams.get(id(given.get("generator"))) if func is torch.randn else None
        if numbers is None:
            return func(*args, **given)
        return numbers(args[0] if args else given["size"]).to(given.get("device"), given.get("dtype"))
