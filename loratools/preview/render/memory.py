"""How much memory rendering needs on the device, and models that are there only while they work."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from loratools.base.model import Base

_ROW = 40  # a UNet row's peak, in planes of its first level's width (latent height x latent width x channels)
_PICTURE = 5  # a decoded picture's peak, in planes of the VAE's second level's width at full size
TILE = 512  # pixels, the side of a tile that is decoded at once
RUNTIME = 500 << 20  # CUDA's own context and its libraries' workspaces


@dataclass(frozen=True)
class Need:
    """Bytes on the device: the models with their saved weights, one batch in the UNet, the pictures decoded at once."""

    weights: int
    sampling: int
    decoding: int
    loaded: int = 0  # of the weights, what is on the device before anything is rendered

    @property
    def total(self) -> int:
        """The peak: sampling and decoding never run at once, but the allocator keeps what graphs hold."""
        return self.weights + self.sampling + self.decoding + RUNTIME

    @property
    def more(self) -> int:
        """Bytes beside what is there already."""
        return self.weights + self.sampling + self.decoding - self.loaded

    def text(self) -> str:
        """For a person."""
        amounts = {"weights": self.weights, "sampling": self.sampling, "decoding": self.decoding}
        parts = ", ".join(f"{_gib(amount)} {name}" for name, amount in amounts.items() if amount)
        return f"needs about {_gib(self.total)} of memory on the device: {parts}"


def fitting(need_of: Callable[[int], Need], asked: int, free: int) -> tuple[int, str]:
    """How many of ``asked`` pictures a batch fit ``free`` bytes, by halves, and what that needs, for a person."""
    most = next((count for count in halves(asked) if need_of(count).more <= free), 1)
    fewer = f", so {most} pictures are made at once in place of {asked}" if most < asked else ""
    return most, f"{need_of(most).text()}; {_gib(free)} are free{fewer}"


@dataclass(frozen=True)
class Savings:
    """What is done to need less memory; it costs time. See :class:`.options.EngineOptions`."""

    offload: bool = False
    sliced: bool = False
    tiled: bool = False

    def text(self) -> str:
        """For a person."""
        said = {
            "only the model that works is kept on the device": self.offload,
            "pictures are decoded one by one": self.sliced and not self.tiled,
            "pictures are decoded one by one in tiles": self.sliced and self.tiled,
            "pictures are decoded in tiles": self.tiled and not self.sliced,
        }
        return ", ".join(name for name, own in said.items() if own)


def choose_savings(need_of: Callable[[int, Savings], Need], asked: Savings, batch: int, free: int) -> Savings:
    """What is saved so that the work fits ``free`` bytes, the quickest first; else all that can be saved.

    Pictures decoded one by one cost less time than smaller batches do, so that is asked of every batch size, the widest
    first. Tiles and models that move cost more than the smallest batch, and come after it.

    Args:
        need_of: what drawing so many pictures a batch takes under what is saved.
        asked: what is saved whether or not it has to be.
        batch: pictures of the widest batch.
    """
    sliced = replace(asked, sliced=True)
    ladder = [(count, own) for count in halves(batch) for own in (asked, sliced)]
    ladder += [(1, replace(sliced, tiled=True)), (1, replace(sliced, offload=True))]
    return next((own for count, own in ladder if need_of(count, own).more <= free), Savings(True, True, True))


def halves(most: int) -> list[int]:
    """``most`` pictures, then half of them and so on, down to one."""
    counts = [most]
    while counts[-1] > 1:
        counts.append(-(-counts[-1] // 2))
    return counts


def need(
    base: Base, batch: int, size: tuple[int, int], decoded: int, touched: int, savings: Savings | None = None
) -> Need:
    """An estimate for batches of ``batch`` pictures of ``size`` (height, width) under CFG.

    Args:
        decoded: pictures decoded at once.
        touched: bytes of weights that adapters change, which are kept a second time.
        savings: what is done to need less.
    """
    savings = savings or Savings()
    models = [base.unet, base.vae, *base.text_encoders]
    loaded = sum(_bytes(model) for model in models if _device(model).type == base.device.type)
    height, width = size
    width0 = base.unet.config.block_out_channels[0]
    wide = base.vae.config.block_out_channels[min(1, len(base.vae.config.block_out_channels) - 1)]
    row = (height // 8) * (width // 8) * width0 * base.dtype.itemsize * _ROW
    pixels = min(height * width, TILE**2) if savings.tiled else height * width
    picture = pixels * wide * base.vae.dtype.itemsize * _PICTURE
    sampling, decoding = 2 * batch * row, (1 if savings.sliced else decoded) * picture
    if not savings.offload:
        return Need(sum(map(_bytes, models)) + touched, sampling, decoding, loaded)
    phases = [Need(_bytes(base.unet), sampling, 0, loaded), Need(_bytes(base.vae), 0, decoding, loaded)]
    phases += [Need(_bytes(encoder), 0, 0, loaded) for encoder in base.text_encoders]
    return max(phases, key=lambda phase: phase.total)


def available(device: torch.device) -> int | None:
    """Bytes that torch could still take on ``device``, as its own limit for this process allows; None where that is not
    known, as on devices other than CUDA."""
    if device.type != "cuda":
        return None
    free, total = torch.cuda.mem_get_info(device)
    allocated = torch.cuda.memory_allocated(device)
    fraction = getattr(torch.cuda, "get_per_process_memory_fraction", None)  # torch 2.6 has none
    number = torch.cuda.current_device() if device.index is None else device.index  # it refuses a bare "cuda"
    limit = total if fraction is None else int(fraction(number) * total)
    return min(free + torch.cuda.memory_reserved(device), limit) - allocated


@contextlib.contextmanager
def tiles(vae: Any) -> Iterator[None]:
    """Inside the block the VAE decodes pictures larger than ``TILE`` in tiles."""
    before = vae.use_tiling, vae.tile_sample_min_size, vae.tile_latent_min_size
    vae.enable_tiling()
    vae.tile_sample_min_size = min(TILE, vae.tile_sample_min_size)
    vae.tile_latent_min_size = min(TILE // 8, vae.tile_latent_min_size)
    try:
        yield
    finally:
        vae.use_tiling, vae.tile_sample_min_size, vae.tile_latent_min_size = before


def too_small(base: Base) -> str:
    """What to do where not even one picture fits, for a person."""
    return (
        f"one picture does not fit the memory of {base.device}; use a smaller `size=`, `offload=True` to keep only the "
        "working model there, or `tiled=True` to decode in tiles"
    )


def to_device(base: Base) -> None:
    """Move what lies in main memory to the base's device. Parameters stay the same objects."""
    for model in (base.unet, base.vae, *base.text_encoders):
        model.to(base.device)


class Offloader:
    """Keeps a base's models in main memory except the one that works. Parameters stay the same objects."""

    def __init__(self, base: Base) -> None:
        self._models: Sequence[Any] = (base.unet, base.vae, *base.text_encoders)
        self._device = base.device
        self._homes = [next(model.parameters()).device for model in self._models]

    def park(self) -> None:
        """All models to main memory."""
        for model in self._models:
            model.to("cpu")

    @contextlib.contextmanager
    def using(self, *models: Any) -> Iterator[None]:
        """``models`` on the device inside the block, and in main memory after it."""
        for model in models:
            model.to(self._device)
        try:
            yield
        finally:
            for model in models:
                model.to("cpu")

    def back(self) -> None:
        """All models to where they were at first."""
        for model, home in zip(self._models, self._homes, strict=True):
            model.to(home)


def _bytes(model: Any) -> int:
    return sum(parameter.nbytes for parameter in model.parameters())


def _device(model: Any) -> torch.device:
    device: torch.device = next(model.parameters()).device
    return device


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
