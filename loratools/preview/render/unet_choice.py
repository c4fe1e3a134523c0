"""How an engine runs the UNet: with fused kernels, with compiled blocks, as a CUDA graph or kernel by kernel.

All of it changes how fast a picture comes and not what it shows beyond rounding.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from loratools.base.compiled.blocks import CompiledUNet
from loratools.base.compiled.store import CompiledStore
from loratools.base.fused.group_norm import triton_works
from loratools.base.fused.modules import FusedModules
from loratools.base.model import Base
from loratools.base.sampling.cuda_graph import UNetGraphs
from loratools.base.sampling.sample import AddedConditions, UNet, plain_unet
from loratools.preview.plan.jobs import Job
from loratools.preview.request.options import EngineOptions

_SAVED = 0.0007  # seconds of a UNet call for one picture of 512 x 512 that compiled blocks save on an H200
_PROCESSORS = 132  # of an H200
_FIRST, _NEXT = 20.0, 4.0  # seconds that compiling takes at first, and when it is read from disk
_MARGIN = 1.5  # it has to save more than it takes
_WORTH_A_GRAPH = 8  # UNet calls of one shape; capturing one costs about three


class UNetChoice:
    """Runs the UNet as options and the work at hand ask for.

    Attributes:
        graphs: its CUDA graphs; None where it is launched kernel by kernel.

    Args:
        say: called with a line of text when blocks are compiled, or cannot be.
    """

    def __init__(self, base: Base, options: EngineOptions, say: Callable[[str], None]) -> None:
        self._base, self._wish, self._say = base, options.compiled, say
        self._plain = plain_unet(base)
        self._store = CompiledStore()
        self._compiled: CompiledUNet | None = None
        self.compiles = False
        self.graphs = UNetGraphs(self) if options.graphs and base.device.type == "cuda" else None
        self._unet_fused = _fused(base, base.unet, base.dtype, options.fused)
        self._decoder_fused = _fused(base, base.vae.decoder, base.vae.dtype, options.fused)

    def __call__(self, latents: Tensor, time: Tensor, hidden: Tensor, added: AddedConditions) -> Tensor:
        """As :data:`~loratools.base.sampling.sample.UNet`."""
        run = self._compiled if self.compiles and self._compiled is not None else self._plain
        return run(latents, time, hidden, added)

    def runner(self, steps: int, repeats: bool = False) -> UNet:
        """What runs it for pictures of so many steps.

        Args:
            repeats: whether the same shapes are asked for again and again, so that few calls are worth a graph too.
        """
        return self.graphs if self.graphs is not None and (repeats or steps >= _WORTH_A_GRAPH) else self

    def drop_graphs(self) -> None:
        """Free every graph."""
        if self.graphs is not None:
            self.graphs.drop()

    def choose(self, jobs: Iterable[Job]) -> None:
        """Decide for ``jobs`` whether blocks are compiled; graphs that were captured otherwise go."""
        before, self.compiles = self.compiles, self._pays(jobs) if self._wish is None else self._wish
        if self.compiles and self._compiled is None:
            self._compiled = CompiledUNet(self._base, self._store, self._say)
        if before != self.compiles:
            self.drop_graphs()

    def sampling(self) -> contextlib.AbstractContextManager[None]:
        """Inside the block the UNet's forwards are fused ones, where that is faster."""
        return self._unet_fused.applied() if self._unet_fused else contextlib.nullcontext()

    def decoding(self) -> contextlib.AbstractContextManager[None]:
        """The same for the VAE's decoder."""
        return self._decoder_fused.applied() if self._decoder_fused else contextlib.nullcontext()

    def _pays(self, jobs: Iterable[Job]) -> bool:
        """Whether compiling surely saves more than it takes: an estimate from the number and size of the pictures.

        Once compiled it stays so: what is ready costs nothing more.
        """
        if self._compiled is not None:
            return not self._compiled.failed
        if self._base.device.type != "cuda" or not triton_works(self._base.device):
            return False
        calls = sum(job.steps * math.prod(job.size) / 512**2 for job in jobs)
        processors = torch.cuda.get_device_properties(self._base.device).multi_processor_count
        saved = calls * _SAVED * _PROCESSORS / processors
        return saved > _MARGIN * (_FIRST if self._store.empty else _NEXT)


def _fused(base: Base, model: torch.nn.Module, dtype: torch.dtype, wish: bool | None) -> FusedModules | None:
    """The fused forwards of a model; by default on CUDA in half precision, which was measured to be faster."""
    half = dtype in (torch.float16, torch.bfloat16)
    faster = half and base.device.type == "cuda" and triton_works(base.device)
    return FusedModules([model]) if (faster if wish is None else wish) else None
