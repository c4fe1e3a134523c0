"""One optimiser step: of all gradients at once, weight by weight, or within the backward pass.

Within the backward pass each weight is stepped as soon as its gradient is complete, and the gradient is dropped: the
memory of all gradients is saved. Where they are clipped by their common norm, a first pass only sums squares, so that
the clipping is the same as with all gradients there; it costs a second forward and backward pass.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from loratools.train.network.full import FullWeights
from loratools.train.network.master import Master, Masters
from loratools.train.network.trained_weights import TrainedWeights
from loratools.train.optim.flat_step import FlatStep, ordered, steps_flat
from loratools.train.step.cuda_graph import steps_on_device

Pass = Callable[[], contextlib.AbstractContextManager[object]]  # what a forward and backward pass runs in


class Update:
    """One optimiser step of gradients that are all there.

    Args:
        optimizer: its groups hold every trained parameter.
        scaler: of the loss, for fp16; disabled otherwise.
        clip: greatest norm of the gradient, 0 for none.
        after: called after every step, as a part of it; it may read nothing on the host.

    Attributes:
        passes: what each forward and backward pass of a micro-batch runs in; only a step within the backward pass has
            more to do there than to compute gradients.
        in_backward: whether the weights are stepped there.
        needs_flat: whether a step is best of gradients that lie in one buffer, see :meth:`flat_gradients`.
    """

    passes: tuple[Pass, ...] = (contextlib.nullcontext,)
    in_backward = False
    needs_flat = False

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
        *,
        clip: float = 0.0,
        after: Callable[[], None] | None = None,
    ) -> None:
        self.optimizer, self.scaler = optimizer, scaler
        self._stepping_optimizer: Any = optimizer  # whose gradients are unscaled, and whose step is called
        self._clip, self._after = clip, after
        self.parameters: list[nn.Parameter] = [p for group in optimizer.param_groups for p in group["params"]]

    @property
    def on_device(self) -> bool:
        """Whether a step reads nothing on the host, so that it can be part of a graph."""
        return steps_on_device(self.optimizer, self.scaler)

    def finish(self) -> None:
        """The step, once all gradients are there."""
        self.scaler.unscale_(self._stepping_optimizer)
        if self._clip:
            torch.nn.utils.clip_grad_norm_(self.parameters, self._clip)
        self._step()
        self.scaler.update()
        if self._after is not None:
            self._after()

    def flat_gradients(self, more: int, device: torch.device) -> Tensor:
        """One buffer of zeros for all gradients, and ``more`` numbers behind them; each ``grad`` is a view of it."""
        sizes = [parameter.numel() for parameter in self.parameters]
        flat = torch.zeros(sum(sizes) + more, device=device)
        for parameter, part in zip(self.parameters, torch.split(flat[: sum(sizes)], sizes), strict=True):
            parameter.grad = part.view_as(parameter)
        return flat

    def _step(self) -> None:
        with ordered(self.optimizer):
            self.scaler.step(self._stepping_optimizer)


class FlatUpdate(Update):
    """The same by a :class:`FlatStep`: a call for each parameter group, where the optimiser has one for each tensor."""

    needs_flat = True

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
        *,
        clip: float = 0.0,
        after: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(optimizer, scaler, clip=clip, after=after)
        self._stepping_optimizer = self._flat = FlatStep(optimizer)

    def flat_gradients(self, more: int, device: torch.device) -> Tensor:
        return self._flat.flat_gradients(more)


class WeightByWeight(Update):
    """The same for weights that are held in bfloat16: each is widened, stepped, and rounded stochastically."""

    def __init__(
        self,
        masters: Masters,
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
        *,
        clip: float = 0.0,
    ) -> None:
        super().__init__(optimizer, scaler, clip=clip)
        self._masters = masters

    def _step(self) -> None:
        for group in self.optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    step_weight(self.optimizer, group, self._masters.of(parameter))


class InBackward(Update):
    """The step within the backward pass.

    Args:
        masters: attached; they say when a gradient is complete.
    """

    in_backward = True

    def __init__(
        self,
        masters: Masters,
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
        *,
        clip: float = 0.0,
    ) -> None:
        super().__init__(optimizer, scaler, clip=clip)
        self._masters = masters
        self._groups = {id(parameter): group for group in optimizer.param_groups for parameter in group["params"]}
        self._norms: dict[int, Tensor] = {}
        self._share: Tensor | None = None  # what gradients are multiplied by, once their norm is known
        self.passes = (self._measuring, self._stepping) if clip else (self._stepping,)

    def finish(self) -> None:
        """All weights have been stepped already."""

    @contextlib.contextmanager
    def _measuring(self) -> Iterator[None]:
        """A pass that only takes the gradients' norms."""
        self._norms = {}
        with self._hearing(self._measure):
            yield
        norms = [self._norms[id(parameter)] for parameter in self.parameters if id(parameter) in self._norms]
        total = torch.linalg.vector_norm(torch.stack(norms))
        self._share = (self._clip / (total + 1e-6)).clamp(max=1.0)  # as torch.nn.utils.clip_grad_norm_ has it

    def _stepping(self) -> contextlib.AbstractContextManager[None]:
        """A pass in which every weight is stepped."""
        return self._hearing(self._step_master)

    @contextlib.contextmanager
    def _hearing(self, hear: Callable[[Master], None]) -> Iterator[None]:
        self._masters.after_gradient = hear
        try:
            yield
        finally:
            self._masters.after_gradient = None

    def _measure(self, master: Master) -> None:
        if master.leaf.grad is not None:
            self._norms[id(master.leaf)] = torch.linalg.vector_norm(master.leaf.grad)
            master.leaf.grad = None

    def _step_master(self, master: Master) -> None:
        if master.leaf.grad is None:
            return
        if self._share is not None:
            master.leaf.grad.mul_(self._share)
        step_weight(self.optimizer, self._groups[id(master.leaf)], master)
        master.leaf.grad = None


def step_weight(optimizer: torch.optim.Optimizer, group: dict[str, Any], master: Master) -> None:
    """One optimiser step of one weight: by the optimiser itself, which for that moment has no other.

    Its state lies where a step of all weights has it, so that states are the same however a run steps.
    """
    groups = optimizer.param_groups
    master.widen()
    optimizer.param_groups = [{**group, "params": [master.leaf]}]
    try:
        with ordered(optimizer):
            optimizer.step()
    finally:
        optimizer.param_groups = groups
    master.narrow()


def make_update(
    network: TrainedWeights,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    *,
    clip: float,
    in_backward: bool,
    after: Callable[[], None] | None = None,
) -> Update:
    """The kind of update that ``network`` needs.

    Args:
        in_backward: see :class:`InBackward`; for a full training alone.
    """
    if not isinstance(network, FullWeights):
        return Update(optimizer, scaler, clip=clip, after=after)
    if in_backward:
        return InBackward(network.masters, optimizer, scaler, clip=clip)
    if network.masters.narrow:
        return WeightByWeight(network.masters, optimizer, scaler, clip=clip)
    kind = FlatUpdate if steps_flat(optimizer) else Update
    return kind(optimizer, scaler, clip=clip, after=network.weights_changed)
