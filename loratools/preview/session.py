"""What stays in memory from one grid to the next: the base model that was used last, and what draws on it."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from loratools.base.any_base import is_pipeline, load_any_base
from loratools.base.base_path import BaseLocation, locate_base
from loratools.base.load import pick_device
from loratools.base.model import Base, LoadedBase
from loratools.base.to_device import release_cache
from loratools.base.vae import use_vae
from loratools.base.vae_path import find_vae, vae_digest
from loratools.errors import BaseModelError
from loratools.preview.render.drawer import Drawer, open_drawer
from loratools.preview.render.prompt_cache import Encode
from loratools.preview.request.options import EngineOptions
from loratools.preview.request.request import ModelRequest


def load_model(name: str, request: ModelRequest, *, offload: bool = False) -> LoadedBase:
    """The base model ``name``, with the VAE that ``request`` names; under ``offload``, and where the device has no
    memory for all of them at once, its weights stay in main memory.

    Raises:
        BaseModelError: if one of them cannot be loaded, or the base takes no other VAE.
    """
    base: LoadedBase | None = None
    with contextlib.suppress(torch.OutOfMemoryError):
        base = load_any_base(name, device=request.device, dtype=request.dtype, parked=offload)
    if base is None:
        _collect(pick_device(request.device))
        base = load_any_base(name, device=request.device, dtype=request.dtype, parked=True)
    if request.vae is not None:
        if not isinstance(base, Base):
            raise BaseModelError(
                f"another VAE can stand in SD 1.x, SD 2.x and SDXL alone, and {base.name} is none of them; leave it out"
            )
        use_vae(base, request.vae)
    return base


@dataclass(frozen=True)
class _Loaded:
    """A base, and what it was loaded by."""

    base: LoadedBase
    path: Path
    request: ModelRequest
    offload: bool

    def fits(self, location: BaseLocation, request: ModelRequest, offload: bool) -> bool:
        """Whether loading would give the same; files are told apart by their content."""
        if (location.path.resolve(), request.dtype, offload) != (self.path, self.request.dtype, self.offload):
            return False
        vae = vae_digest(find_vae(request.vae)) if request.vae is not None else ""
        own = self.base.vae_digest if isinstance(self.base, Base) else ""
        return (pick_device(request.device), vae) == (self.base.device, own) and (location.digest() == self.base.digest)


class Session:
    """Keeps one base model and what draws on it for the grids of a process; each is asked for where it is needed.

    A second grid on the same base then loads and encodes nothing again: the drawer keeps prompts' encodings, and for
    Stable Diffusion deltas on the device and captured graphs. Another base, or another VAE, dtype or device, takes the
    place of what is kept, whose memory is freed first. Close the session, or leave its ``with`` block, to free the
    rest.

    It belongs to one thread at a time.
    """

    def __init__(self) -> None:
        self._loaded: _Loaded | None = None
        self._drawer: Drawer | None = None

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def load(self, name: str, request: ModelRequest, *, offload: bool = False) -> LoadedBase:
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

    def load_unet(self, name: str, request: ModelRequest) -> Base:
        """As :meth:`load`, for callers who draw on SD 1.x, SD 2.x and SDXL alone; nothing of another base is loaded.

        Raises:
            BaseModelError: as :meth:`load`, and for a base of another family.
        """
        base = None if is_pipeline(locate_base(name)) else self.load(name, request)
        if not isinstance(base, Base):
            raise BaseModelError(
                f"{name} is no SD 1.x, SD 2.x or SDXL: `grid`, `blocks analyze-effect` and `blocks tune` draw with it, "
                "and nothing else"
            )
        return base

    @contextlib.contextmanager
    def drawer(
        self, base: LoadedBase, options: EngineOptions, encode: Encode, say: Callable[[str], None] | None = None
    ) -> Iterator[Drawer]:
        """What draws on ``base``, kept from an earlier grid where that had the same options.

        It is not kept where the block ends with an error. Other bases than those of :meth:`load` have drawers too.

        Args:
            encode, say: as for :func:`~.render.drawer.open_drawer`.
        """
        drawer = self._drawer
        if drawer is None or drawer.base is not base or drawer.options != options:
            del drawer
            self.close_drawer()
            drawer = self._drawer = open_drawer(base, options, encode=encode, say=say)
        else:
            drawer.serve(encode, say)
        try:
            yield drawer
        except BaseException:
            self.close_drawer()
            raise

    def close(self) -> None:
        """Free the drawer and the base."""
        device = self._drop_drawer()
        if self._loaded is not None:
            device, self._loaded = self._loaded.base.device, None
        if device is not None:
            _collect(device)

    def close_drawer(self) -> None:
        """Free the drawer with all that it keeps; the base stays."""
        device = self._drop_drawer()
        if device is not None:
            _collect(device)

    def _drop_drawer(self) -> torch.device | None:
        """Close the drawer; its device, whose memory is to be given back, or None where there is no drawer."""
        if self._drawer is None:
            return None
        drawer, self._drawer = self._drawer, None
        drawer.close()
        return drawer.base.device


def _collect(device: torch.device) -> None:
    """Give memory back: the modules of a model, and graphs, refer to each other."""
    gc.collect()
    release_cache(device)
