"""A whole training step as one CUDA graph: captured once for every shape of batch, then replayed.

A LoRA step on a fast GPU is some ten thousand kernels of a few microseconds: eager execution waits for Python to
launch them. A graph launches them at once. What makes the replay equal the eager step:

- inputs are copied into buffers that the graph reads; noise, timesteps and dropout come from generators registered
  with the graph and seeded anew before every step by a function of (seed, step), eager or not;
- learning rates, the loss scale and the optimiser's step counts are tensors;
- the first steps of a shape run eagerly, on the stream that captures, and count as steps of the run: they are the
  warm-up, so nothing has to be restored, and capturing itself executes nothing.

With one micro-batch a step on one process everything from the draws to the optimiser is one graph. With gradient
accumulation or several processes, forward and backward are a graph that adds to one flat gradient buffer, and the
optimiser's step is another. An optimiser that reads numbers on the host (most outside torch.optim) runs eagerly
after the first.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from loratools.errors import TrainingError
from loratools.train.distributed import Ranks
from loratools.train.step.batch import Inputs, Micro, Outcome
from loratools.train.step.cuda_graph import copy_into, shape_key
from loratools.train.step.update import Update

_WARM = 2  # eager steps of the first shape, for lazy initialisation and cuDNN's choice; one of every other shape
_REPAID = 12  # replays of a shape from which a capture (about two eager steps and an instantiation) is repaid

Work = Callable[[Inputs, Micro, torch.Generator], Outcome]


@dataclass
class _Captured:
    graph: torch.cuda.CUDAGraph
    inputs: Inputs
    outcome: Outcome


class Executor:
    """Runs optimiser steps, as graphs where a capture is worth its time and eagerly elsewhere; both compute the same.

    Args:
        work: draws, forward and backward of one micro-batch; adds to the parameters' gradients.
        update: the optimiser's step; see :func:`loratools.train.step.cuda_graph.device_rates`.
        mode: ``auto``, ``on`` or ``off``; graphs need a CUDA device whatever is asked for.
    """

    def __init__(
        self,
        work: Work,
        update: Update,
        device: torch.device,
        ranks: Ranks,
        *,
        accumulates: bool,
        mode: Literal["auto", "on", "off"],
    ) -> None:
        self._work, self._update, self._ranks = work, update, ranks
        self._mode = mode if device.type == "cuda" else "off"
        if update.in_backward and not update.on_device and self._mode != "off":
            if mode == "on":
                kind = type(update.optimizer).__name__
                raise TrainingError(
                    f"{kind}'s step reads numbers on the host, so it cannot be part of a graph; "
                    "set graph: off, or fused_backward_pass: off"
                )
            self._mode = "off"
        self._device = device
        self._generator = torch.Generator(device)
        self._factors = update.parameters
        alone = not accumulates and ranks.world == 1 and not update.needs_flat
        self._whole = alone and (self._mode == "off" or update.on_device or update.in_backward)
        self._flat = None if self._whole else update.flat_gradients(1, device)  # the loss is the last number
        self._graphs: dict[Hashable, _Captured] = {}
        self._finish_graph: torch.cuda.CUDAGraph | None = None
        self._pool: Any = torch.cuda.graph_pool_handle() if self._mode != "off" else None
        self._eager_uses: Counter[Hashable] = Counter()
        self._left: Mapping[Hashable, int] = {}
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]

    def expect(self, uses: Mapping[Hashable, int]) -> None:
        """Set how often each :func:`expected_key` is still to come, from which ``auto`` decides on captures."""
        self._left = uses

    def step(self, micros: Sequence[tuple[Inputs, Micro]]) -> Outcome:
        """Run one optimiser step, ordered after the current stream's work.

        Returns:
            Copies, which later steps do not overwrite.
        """
        if self._stream is None:
            return self._step(micros)
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            outcome = self._step(micros)
        current.wait_stream(self._stream)
        return outcome

    def _step(self, micros: Sequence[tuple[Inputs, Micro]]) -> Outcome:
        if self._flat is not None:
            self._flat.zero_()
        # a process that has no row of a small last batch has no micro-batch either
        parts = [self._run(inputs, micro) for inputs, micro in micros if micro.first < micro.last]
        loss = torch.stack([part.loss for part in parts]).sum() if parts else torch.zeros((), device=self._device)
        if self._ranks.world > 1 and self._flat is not None:
            self._flat[-1].copy_(loss)
            self._ranks.sum(self._flat)
            loss = self._flat[-1].clone()
        if not self._whole:
            self._seed(micros[-1][1].seed)  # also where this process had no row, so that all round alike
            self._finish_once()
        none = torch.zeros(0, device=self._device)
        timesteps = torch.cat([none.long(), *(part.timesteps for part in parts)])
        return Outcome(loss, torch.cat([none, *(part.losses for part in parts)]), timesteps)

    def _run(self, inputs: Inputs, micro: Micro) -> Outcome:
        self._seed(micro.seed)
        key = (shape_key(inputs), micro.first, micro.last, micro.total, micro.share)
        captured, left = self._graphs.get(key), self._left.get(expected_key(inputs, micro), 0)
        if captured is None and repays(self._mode, self._eager_uses[key], not self._graphs, left):
            captured = self._capture(inputs, micro)
            if captured is not None:
                self._graphs[key] = captured
        if captured is None:
            self._eager_uses[key] += 1
            return self._body(inputs.to(self._device), micro)
        copy_into(captured.inputs, inputs)
        captured.graph.replay()
        return captured.outcome.clone()

    def _body(self, inputs: Inputs, micro: Micro) -> Outcome:
        outcome = self._work(inputs, micro, self._generator)
        if self._whole:
            self._update.finish()
            for factor in self._factors:
                factor.grad = None  # backward then hands over its own tensors, which saves an addition each
        return outcome

    def _finish_once(self) -> None:
        """The optimiser's step outside the micro-batches' graphs: its own graph from its second time on."""
        capturable = self._mode != "off" and self._flat is not None and self._update.on_device
        if not capturable or not self._graphs:
            self._update.finish()
            return
        if self._finish_graph is None:
            self._finish_graph = torch.cuda.CUDAGraph()
            with self._capturing(self._finish_graph):
                self._update.finish()
        self._finish_graph.replay()

    def _capture(self, inputs: Inputs, micro: Micro) -> _Captured | None:
        """The graph of this shape; None, and none of any later shape, if something in the step cannot be captured."""
        static = inputs.to(self._device, copy=True)
        try:
            graph = torch.cuda.CUDAGraph()
            graph.register_generator_state(self._generator)
            with self._capturing(graph):
                outcome = self._body(static, micro)
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            if self._mode == "on" or self._update.scaler.is_enabled():  # a scaler cannot take half a step back
                raise TrainingError(f"the step cannot be captured as a graph ({reason}); set graph: off") from error
            warnings.warn(f"steps run eagerly, since one cannot be captured as a graph ({reason})", stacklevel=2)
            self._mode = "off"
            self._recover(micro)
            return None
        return _Captured(graph, static, outcome)

    def _recover(self, micro: Micro) -> None:
        """Undo what a failed capture leaves: gradients that were never computed, and generators still in capture mode.

        PyTorch notifies generators of a capture's end only where the capture succeeded, so one of a single small kernel
        follows here.
        """
        if self._whole:
            for factor in self._factors:
                factor.grad = None
        if self._device.type == "cuda":
            graph = torch.cuda.CUDAGraph()
            graph.register_generator_state(self._generator)
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                torch.zeros((), device=self._device)
        self._seed(micro.seed)

    def _capturing(self, graph: torch.cuda.CUDAGraph) -> torch.cuda.graph:
        # thread_local: the feeding thread may pin memory meanwhile
        return torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local")

    def _seed(self, seed: int) -> None:
        self._generator.manual_seed(seed)
        default = (
            torch.cuda.default_generators[self._device.index or 0]
            if self._device.type == "cuda"
            else torch.default_generator
        )
        default.manual_seed(seed ^ 0x5DEECE66D)  # dropout's


def repays(mode: str, eager: int, first: bool, left: int) -> bool:
    """Whether a shape that has run eagerly ``eager`` times should be captured now.

    Args:
        first: nothing has been captured yet, so that the eager steps also warm the process up.
        left: how often the shape is still to come.
    """
    if mode == "off" or eager < (_WARM if first else 1):
        return False
    return mode == "on" or left >= _REPAID


def expected_key(inputs: Inputs, micro: Micro) -> Hashable:
    """What is known of a batch before it is read: its latents' size (width, height) and its rows."""
    height, width = inputs.mean.shape[-2:]
    return (width, height), micro.total
