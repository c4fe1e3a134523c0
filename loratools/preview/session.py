"""What stays in memory from one grid to the next: the base model that was used last, and its engine."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from loratools.base.base_path import BaseLocation, locate_base
from loratools.base.load import load_base, pick_device
from loratools.base.model import Base
from loratools.base.vae import use_vae
from loratools.base.vae_path import find_vae, vae_digest
from loratools.preview.render.engine import Engine
from loratools.preview.render.prompt_cache import Encode
from loratools.preview.request.options import EngineOptions
from loratools.preview.request.request import ModelRequest


def load_model(name: str, request: ModelRequest, *, offload: bool = False) -> Base:
    """The base model ``name``, with the VAE that ``request`` names; under ``offload``, and where the device has no
    memory for all of them at once, its weights stay in main memory.

    Raises:
        BaseModelError: if one of them cannot be loaded.
    """
    base: Base | None = None
    with contextlib.suppress(torch.OutOfMemoryError):
        base = load_base(name, device=request.device, dtype=request.dtype, parked=offload)
    if base is None:
        _collect(pick_device(request.device))
        base = load_base(name, device=request.device, dtype=request.dtype, parked=True)
    if request.vae is not None:
        use_vae(base, request.vae)
    return base


@dataclass(frozen=True)
class _Loaded:
    """A base, and what it was loaded by."""

    base: Base
    path: Path
    request: ModelRequest
    offload: bool

    def fits(self, location: BaseLocation, request: ModelRequest, offload: bool) -> bool:
        """Whether loading would give the same; files are told apart by their content."""
        if (location.path.resolve(), request.dtype, offload) != (self.path, self.request.dtype, self.offload):
            return False
        vae = vae_digest(find_vae(request.vae)) if request.vae is not None else ""
        return (pick_device(request.device), vae) == (self.base.device, self.base.vae_digest) and (
            location.digest() == self.base.digest
        )


class Session:
    """Keeps one base model and its engine for the grids of a process; each is asked for where it is needed.

    A second grid on the same base then loads and encodes nothing again: the engine keeps prompts' encodings, deltas on
    the device and captured graphs. Another base, or another VAE, dtype or device, takes the place of what is kept,
    whose memory is freed first. Close the session, or leave its ``with`` block, to free the rest.

    It belongs to one thread at a time.
    """

    def __init__(self) -> None:
        self._loaded: _Loaded | None = None
        self._engine: Engine | None = None

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def load(self, name: str, request: ModelRequest, *, offload: bool = False) -> Base:
        """As :func:`load_model`; the base that is kept, if it is this one and its files are as they were.

        Raises:
            BaseModelError: as :func:`load_model`; nothing is kept then.
        """
        location = locate_base(name)
        if self._loaded is None or not self._loaded.fits(location, request, offload):
            self.close()
            base = load_model(name, request, offload=offload)
            self._loaded = _Loaded(base, location.path.resolve(), request, offload)
        self._loaded.base.name = location.label
        return self._loaded.base

    @contextlib.contextmanager
    def engine(
        self, base: Base, options: EngineOptions, encode: Encode, say: Callable[[str], None] | None = None
    ) -> Iterator[Engine]:
        """The engine of ``base``, kept from an earlier grid where that had the same options.

        It is not kept where the block ends with an error. Other bases than those of :meth:`load` have engines too.

        Args:
            encode, say: as for :class:`~.render.engine.Engine`.
        """
        engine = self._engine
        if engine is None or engine.base is not base or engine.options != options:
            del engine
            self.close_engine()
            engine = self._engine = Engine(base, options, encode=encode, say=say)
        else:
            engine.serve(encode, say)
        try:
            yield engine
        except BaseException:
            self.close_engine()
            raise

    def close(self) -> None:
        """Free the engine and the base."""
        device = self._drop_engine()
        if self._loaded is not None:
            device, self._loaded = self._loaded.base.device, None
        if device is not None:
            _collect(device)

    def close_engine(self) -> None:
        """Free the engine with all that it keeps; the base stays."""
        device = self._drop_engine()
        if device is not None:
            _collect(device)

    def _drop_engine(self) -> torch.device | None:
        """Close the engine; its device, whose memory is to be given back, or None where there is no engine."""
        if self._engine is None:
            return None
        engine, self._engine = self._engine, None
        engine.close()
        return engine.base.device


def _collect(device: torch.device) -> None:
    """Give memory back: the modules of a model, and graphs, refer to each other."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
