"""The UNet as a CUDA graph: all kernels of a call launched at once, on whatever its weights hold at that time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from loratools.base.sampling.sample import AddedConditions, UNet

_WARM_UP = 2  # calls before the capture, in which libraries choose their kernels
_MOST_GRAPHS = 4  # kept; each holds the activations of its shape


class UNetGraphs:
    """CUDA graphs of one UNet, one for each shape of its inputs. Weights are read from the memory that they had at the
    capture: patching them in place changes what a replay gives; after they move elsewhere, :meth:`drop` is needed.

    Args:
        unet: how the UNet is run, for instance :func:`~loratools.base.sampling.sample.plain_unet`.
    """

    def __init__(self, unet: UNet) -> None:
        self._unet = unet
        self._captured: OrderedDict[Any, _Captured] = OrderedDict()
        self._pool: Any = None

    @torch.no_grad()
    def __call__(self, latents: Tensor, time: Tensor, hidden: Tensor, added: AddedConditions) -> Tensor:
        """The UNet's prediction (r, 4, h, w); captured the first time that inputs have these shapes."""
        inputs = (latents, time, hidden, *(added or {}).values())
        key = tuple((tuple(value.shape), value.dtype) for value in inputs)
        if key not in self._captured:
            while len(self._captured) >= _MOST_GRAPHS:
                self._captured.popitem(last=False)
            self._captured[key] = self._capture(latents, time, hidden, added)
        self._captured.move_to_end(key)
        return self._captured[key].replay(inputs)

    def drop(self) -> None:
        """Free every graph and its memory."""
        self._captured.clear()
        self._pool = None

    def _capture(self, latents: Tensor, time: Tensor, hidden: Tensor, added: AddedConditions) -> _Captured:
        own = {name: value.clone() for name, value in (added or {}).items()}
        x, t, states = latents.clone(), time.clone(), hidden.clone()

        def call() -> Tensor:
            return self._unet(x, t, states, own or None)

        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        graph, output = capture_graph(call, self._pool)
        return _Captured(graph, (x, t, states, *own.values()), output)


class _Captured:
    """A graph, the inputs that it reads and the output that it writes."""

    def __init__(self, graph: torch.cuda.CUDAGraph, held: tuple[Tensor, ...], output: Tensor) -> None:
        self._graph, self._held, self._output = graph, held, output

    def replay(self, inputs: tuple[Tensor, ...]) -> Tensor:
        for held, value in zip(self._held, inputs, strict=True):
            held.copy_(value)
        self._graph.replay()
        return self._output.clone()  # some samplers keep predictions for later steps


def capture_graph(call: Callable[[], Tensor], pool: Any, *, trials: bool = True) -> tuple[torch.cuda.CUDAGraph, Tensor]:
    """``call`` as a graph, and its output. Only this thread's work is captured, so others may go on meanwhile.

    Args:
        trials: whether cuDNN times its kernels for each new shape before, and takes the quickest.
    """
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = trials
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    try:
        with torch.cuda.stream(side):
            for _ in range(_WARM_UP):
                call()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            output = call()
    finally:
        torch.backends.cudnn.benchmark = before
    return graph, output
