"""How much memory rendering needs on the device, and models that are there only while they work."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from loratools.base.model import Base

_ROW = 40  # a UNet row's peak, in planes of its first level's width (latent height x latent width x channels)
_PICTURE = 5  # a decoded picture's peak, in planes of the VAE's second level's width at full size
_RUNTIME = 500 << 20  # CUDA's own context and its libraries' workspaces


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
        return self.weights + self.sampling + self.decoding + _RUNTIME

    @property
    def more(self) -> int:
        """Bytes beside what is there already."""
        return self.weights + self.sampling + self.decoding - self.loaded

    def text(self) -> str:
        """For a person."""
        parts = f"{_gib(self.weights)} weights, {_gib(self.sampling)} sampling, {_gib(self.decoding)} decoding"
        return f"needs about {_gib(self.total)} of memory on the device: {parts}"


def fitting(need_of: Callable[[int], Need], asked: int, free: int) -> tuple[int, str]:
    """How many of ``asked`` pictures a batch fit ``free`` bytes, by halves, and what that needs, for a person."""
    most = asked
    while most > 1 and need_of(most).more > free:
        most = -(-most // 2)
    fewer = f", so {most} pictures are made at once in place of {asked}" if most < asked else ""
    return most, f"{need_of(most).text()}; {_gib(free)} are free{fewer}"


def need(base: Base, batch: int, size: tuple[int, int], decoded: int, touched: int, *, offload: bool = False) -> Need:
    """An estimate for batches of ``batch`` pictures of ``size`` (height, width) under CFG.

    Args:
        decoded: pictures decoded at once.
        touched: bytes of weights that adapters change, which are kept a second time.
        offload: whether only the model that works is on the device.
    """
    models = [_bytes(model) for model in (base.unet, base.vae, *base.text_encoders)]
    height, width = size
    width0 = base.unet.config.block_out_channels[0]
    wide = base.vae.config.block_out_channels[min(1, len(base.vae.config.block_out_channels) - 1)]
    row = (height // 8) * (width // 8) * width0 * base.dtype.itemsize * _ROW
    picture = height * width * wide * base.dtype.itemsize * _PICTURE
    sampling, decoding = 2 * batch * row, decoded * picture
    if offload:
        return Need(max(models), sampling, decoding)
    return Need(sum(models) + touched, sampling, decoding, sum(models))


def available(device: torch.device) -> int | None:
    """Bytes that torch could still take on ``device``; None where that is not known, as on devices other than CUDA."""
    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def too_small(base: Base) -> str:
    """What to do where not even one picture fits, for a person."""
    return (
        f"one picture does not fit the memory of {base.device}; use a smaller `size=`, `offload=True` to keep only the "
        "working model there, or `tiled=True` to decode in tiles"
    )


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


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
