"""What the base's own UNet sees in a picture: a description by numbers that needs no other model.

A picture's latents are noised a little (step 200 of 1,000, the same noise for all pictures) and denoised without a
prompt; on the way the activations of the middle block and of the last three blocks on the way up are kept. Of each
channel four numbers are taken over all places: mean, spread, and the means of its highest and its lowest sixteenth,
in which a few odd places (a hand, a face) show. Noising with one seed makes the description repeatable.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from loratools.base.model import Base
from loratools.base.prompt.conditioning import condition
from loratools.base.sampling.noise import initial_latents
from loratools.base.sampling.noise_kinds import OWN
from loratools.base.sampling.sample import plain_unet, unet_conditions
from loratools.base.vae import encode
from loratools.measures.measure import Shown
from loratools.train.step.objective import NoiseSchedule, noise_schedule, noised

if TYPE_CHECKING:
    from PIL.Image import Image

Values = npt.NDArray[np.float64]
TIMESTEP = 200
_PIXELS_AT_ONCE = 16 * 512 * 512
_UP_BLOCKS = 3  # the last of them
_EXTREME = 16  # one place in so many is among the highest, and as many among the lowest


@dataclass(frozen=True, eq=False)
class Described:
    """Pictures by numbers: ``features`` (n, d) in float64, block by block; ``blocks`` says where each block's stand."""

    features: Values
    blocks: dict[str, slice]


class UNetFeatures:
    """Describes pictures by the activations of a base's UNet, which must be without a LoRA meanwhile."""

    def __init__(self, base: Base, timestep: int = TIMESTEP) -> None:
        self._base, self._timestep = base, timestep
        self._schedule: NoiseSchedule = noise_schedule(base.scheduler_config).to(base.device)
        self._null = condition(base, [""])

    def __call__(self, pictures: Sequence[Shown]) -> Values:
        """(n, d) for pictures of any size; those of one size go through together."""
        return self.described(pictures).features

    def described(self, pictures: Sequence[Shown]) -> Described:
        """The same with the blocks' places."""
        fitted = [fit(picture.image, self._base) for picture in pictures]
        rows: list[Values | None] = [None] * len(fitted)
        blocks: dict[str, slice] = {}
        for size in dict.fromkeys(image.size for image in fitted):
            own = [n for n, image in enumerate(fitted) if image.size == size]
            at_once = max(1, min(64, _PIXELS_AT_ONCE // (size[0] * size[1])))
            for start in range(0, len(own), at_once):
                part = own[start : start + at_once]
                values, blocks = self._batch([fitted[n] for n in part])
                for n, row in zip(part, values, strict=True):
                    rows[n] = row
        known = [row for row in rows if row is not None]
        return Described(np.stack(known) if known else np.empty((0, 0)), blocks)

    @torch.no_grad()
    def _batch(self, images: Sequence[Image]) -> tuple[Values, dict[str, slice]]:
        base = self._base
        pixels = np.stack([np.asarray(image, dtype=np.float32) for image in images])
        tensor = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 127.5 - 1
        latents = encode(base.vae, tensor).mean * base.vae.config.scaling_factor
        size = tensor.shape[2], tensor.shape[3]
        noise = initial_latents(OWN, 0, size, base.vae_scale_factor).to(latents.device, torch.float32)
        times = torch.full((len(images),), self._timestep, device=base.device)
        seen = noised(self._schedule, latents.float(), noise.expand(latents.shape), times).to(base.dtype)
        hidden, added = unet_conditions(base, self._null, size)
        count = len(images)
        added = None if added is None else {name: own.expand(count, -1) for name, own in added.items()}
        with _activations(base.unet) as kept:
            plain_unet(base)(seen, times, hidden.expand(count, -1, -1), added)
        parts = {name: _statistics(own) for name, own in kept.items()}
        ends = np.cumsum([0, *(part.shape[1] for part in parts.values())])
        places = {name: slice(int(a), int(b)) for name, a, b in zip(parts, ends[:-1], ends[1:], strict=True)}
        return torch.cat(list(parts.values()), 1).double().cpu().numpy(), places


def fit(image: Image, base: Base) -> Image:
    """A picture at a size that the UNet takes: as it is where it fits, else about as large as the base's own pictures.

    Its shape is kept but for what the UNet's steps of 64 pixels cut off.
    """
    from PIL import ImageOps
    from PIL.Image import Resampling

    step = base.vae_scale_factor * 2 ** (len(base.unet.config.block_out_channels) - 1)
    height, width = base.resolution
    own = image.convert("RGB")
    if own.width % step == 0 and own.height % step == 0 and own.width * own.height <= 2 * height * width:
        return own
    scale = math.sqrt(height * width / (own.width * own.height))
    fitted = tuple(max(step, round(side * scale / step) * step) for side in own.size)
    return ImageOps.fit(own, (fitted[0], fitted[1]), Resampling.LANCZOS)


@contextmanager
def _activations(unet: Any) -> Iterator[dict[str, Tensor]]:
    """The outputs (b, c, h, w) of the middle block and the last blocks on the way up, filled while the UNet runs."""
    count = len(unet.up_blocks)
    blocks = {f"up{n}": unet.up_blocks[n] for n in range(max(0, count - _UP_BLOCKS), count)}
    if unet.mid_block is not None:
        blocks = {"mid": unet.mid_block, **blocks}
    kept: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        def hook(_module: Any, _inputs: Any, output: Any) -> None:
            kept[name] = (output[0] if isinstance(output, tuple) else output).detach()

        return hook

    hooks = [block.register_forward_hook(keep(name)) for name, block in blocks.items()]
    try:
        yield kept
    finally:
        for hook in hooks:
            hook.remove()


def _statistics(activations: Tensor) -> Tensor:
    """(b, 4 c): of each channel its mean, spread, and the means of its highest and lowest places."""
    flat = activations.float().flatten(2)
    extreme = max(1, flat.shape[2] // _EXTREME)
    ordered = flat.sort(dim=2).values
    parts = (flat.mean(2), flat.std(2, correction=0), ordered[..., -extreme:].mean(2), ordered[..., :extreme].mean(2))
    return torch.cat(parts, 1)
