"""What the base's own UNet sees in a picture: a description by numbers that needs no other model.

A picture's latents are noised a little (step 200 of 1,000, the same noise for all pictures) and denoised without a
prompt; on the way the activations of every block, down, middle and up, are kept. Of each channel four numbers are taken
over all places: mean, spread, and the means of its highest and its lowest sixteenth, in which a few odd places (a hand,
a face) show. Noising with one seed makes the description repeatable. The blocks on the way down, which the first
version left out, tell styles apart better and defects as well (benchmarks/results/measures.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from loratools.base.model import Base
from loratools.base.prompt.conditioning import condition
from loratools.base.sampling.noise import initial_latents
from loratools.base.sampling.noise_kinds import OWN
from loratools.base.sampling.sample import plain_unet, unet_conditions
from loratools.dtypes import widened
from loratools.measures.last_batch import LastBatch
from loratools.measures.measure import Shown
from loratools.measures.probe.encoded import EncodedBatch, PictureEncoder
from loratools.measures.smooth import SmoothBatch
from loratools.train.step.objective import NoiseSchedule, noise_schedule, noised

Values = npt.NDArray[np.float64]
TIMESTEP = 200
NEAR = 60  # of another description, of the outer blocks
_OUTER = 2  # blocks at either end
_OTHER_NOISE = 1  # its seed, so that what a search learns of one noise says nothing to the other description
_EXTREME = 16  # one place in so many is among the highest, and as many among the lowest


@dataclass(frozen=True, eq=False)
class Described:
    """Pictures by numbers: ``features`` (n, d) in float64, block by block; ``blocks`` says where each block's stand."""

    features: Values
    blocks: dict[str, slice]


class UNetFeatures:
    """Describes pictures by the activations of a base's UNet, which must be without a LoRA meanwhile.

    What it said of the last pictures is kept for the next measure that asks.

    Args:
        encode: pictures -> latents, where other readers share it.
        outer: only of the two blocks that are nearest to the picture on the way down, and the two on the way up.
    """

    def __init__(
        self,
        base: Base,
        timestep: int = TIMESTEP,
        encode: PictureEncoder | None = None,
        *,
        outer: bool = False,
    ) -> None:
        self._base, self._timestep, self._outer = base, timestep, outer
        self._seed = _OTHER_NOISE if outer else 0
        self._encode = encode or PictureEncoder(base)
        self._schedule: NoiseSchedule = noise_schedule(base.scheduler_config).to(base.device)
        self._null = condition(base, [""])
        self._kept = LastBatch(self.described)

    def __call__(self, pictures: Sequence[Shown]) -> Values:
        """(n, d) for pictures of any size; those of one size go through together."""
        return self._kept(pictures).features

    def smooth(self, drawn: SmoothBatch) -> Tensor:
        """(n, d) for pictures that carry gradients, on their device.

        Activations are computed again in the backward pass: a picture's own are more than the rest of a step keeps.
        """
        batch = drawn.read(self._encode.smooth)

        def described(latents: Tensor) -> Tensor:
            return torch.cat(list(self._statistics(latents, batch.size).values()), 1)

        features: Tensor = checkpoint(described, batch.latents, use_reentrant=False)
        return features

    def described(self, pictures: Sequence[Shown]) -> Described:
        """The same with the blocks' places."""
        rows: dict[int, Values] = {}
        blocks: dict[str, slice] = {}
        for batch in self._encode(pictures):
            values, blocks = self._batch(batch)
            rows |= dict(zip(batch.places, values, strict=True))
        return Described(np.stack([rows[n] for n in range(len(rows))]) if rows else np.empty((0, 0)), blocks)

    @torch.no_grad()
    def _batch(self, batch: EncodedBatch) -> tuple[Values, dict[str, slice]]:
        parts = self._statistics(batch.latents, batch.size)
        ends = np.cumsum([0, *(part.shape[1] for part in parts.values())])
        places = {name: slice(int(a), int(b)) for name, a, b in zip(parts, ends[:-1], ends[1:], strict=True)}
        return torch.cat(list(parts.values()), 1).cpu().double().numpy(), places

    def _statistics(self, latents: Tensor, size: tuple[int, int]) -> dict[str, Tensor]:
        """Block -> (b, 4 c) of latents (b, c, h, w) of pictures of ``size``."""
        base, count = self._base, len(latents)
        latents = latents.to(base.device)
        noise = initial_latents(OWN, self._seed, size, base.vae_scale_factor).to(latents)
        times = torch.full((count,), self._timestep, device=base.device)
        seen = noised(self._schedule, latents, noise.expand(latents.shape), times).to(base.dtype)
        hidden, added = unet_conditions(base, self._null, size)
        added = None if added is None else {name: own.expand(count, -1) for name, own in added.items()}
        with _activations(base.unet, outer=self._outer) as kept:
            plain_unet(base)(seen, times, hidden.expand(count, -1, -1), added)
        return {name: _statistics(own) for name, own in kept.items()}


@contextmanager
def _activations(unet: Any, *, outer: bool) -> Iterator[dict[str, Tensor]]:
    """The outputs (b, c, h, w) of all blocks, or of the ``outer`` ones, in the order in which the UNet runs through
    them, filled meanwhile."""
    blocks = {f"down{n}": own for n, own in enumerate(unet.down_blocks)}
    if unet.mid_block is not None:
        blocks["mid"] = unet.mid_block
    blocks |= {f"up{n}": own for n, own in enumerate(unet.up_blocks)}
    if outer:
        names = list(blocks)
        blocks = {name: blocks[name] for name in (*names[:_OUTER], *names[-_OUTER:])}
    kept: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        def hook(_module: Any, _inputs: Any, output: Any) -> None:
            kept[name] = output[0] if isinstance(output, tuple) else output

        return hook

    hooks = [block.register_forward_hook(keep(name)) for name, block in blocks.items()]
    try:
        yield kept
    finally:
        for hook in hooks:
            hook.remove()


def _statistics(activations: Tensor) -> Tensor:
    """(b, 4 c): of each channel its mean, spread, and the means of its highest and lowest places."""
    flat = widened(activations).flatten(2)
    extreme = max(1, flat.shape[2] // _EXTREME)
    ordered = flat.sort(dim=2).values
    parts = (flat.mean(2), flat.std(2, correction=0), ordered[..., -extreme:].mean(2), ordered[..., :extreme].mean(2))
    return torch.cat(parts, 1)
