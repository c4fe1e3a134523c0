"""bitsandbytes' 8-bit step of all weights of a parameter group at once, in place of one tensor after another.

bitsandbytes quantises moments in blocks of 256 numbers. Weights that begin at multiples of 256 in one buffer share no
block, so that one call over the buffer gives, bit for bit, what a call for each of them gives: the rest of a weight's
last block is zeros, as its own call has it there. Tensors under ``min_8bit_size``, whose moments stay in 32 bits, are
buffers of their own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

BLOCK = 256  # numbers that bitsandbytes quantises by one maximum
_ELEMENTWISE = frozenset({"adam", "lion", "momentum", "rmsprop", "adagrad"})
_DIVIDES = frozenset({"adam", "rmsprop", "adagrad"})
_MOST_ON_GPU = 2**30  # weights of a buffer: kernels count in 32 bits
_MOST_ELSEWHERE = 2**22  # the step on a CPU makes four temporary tensors of a buffer's size
_SHARE = {"state1": 1, "state2": 1, "absmax1": BLOCK, "absmax2": BLOCK}  # weights to a number


def steps_flat(optimizer: torch.optim.Optimizer) -> bool:
    """Whether ``optimizer`` is one of bitsandbytes' whose 8-bit step treats every number, or block of 256, alone.

    Not those with norms of whole tensors (LAMB, LARS), with a pair of moments in one (AdEMAMix), nor the paged ones,
    whose states are on the host for their memory. Without an eps the padding would become 0 / 0.
    """
    given = getattr(optimizer, "args", None)
    name = getattr(optimizer, "optimizer_name", None)
    return bool(
        is_bitsandbytes(optimizer)
        and name in _ELEMENTWISE
        and getattr(given, "optim_bits", 32) == 8
        and getattr(given, "max_unorm", 0) == 0
        and not getattr(optimizer, "is_paged", False)
        and all(name not in _DIVIDES or group["eps"] > 0 for group in optimizer.param_groups)
        and all(p.dtype == torch.float32 for group in optimizer.param_groups for p in group["params"])
    )


def is_bitsandbytes(optimizer: torch.optim.Optimizer) -> bool:
    """Whether the optimiser's kernels are bitsandbytes'."""
    return any(kind.__module__.partition(".")[0] == "bitsandbytes" for kind in type(optimizer).__mro__)


@contextlib.contextmanager
def ordered(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Inside the block a step comes after the current stream's work, and that stream's later work after the step.

    bitsandbytes launches its optimisers' kernels on the device's default stream, whichever stream is current, and the
    streams of PyTorch do not wait for that one by themselves.
    """
    device = next((p.device for group in optimizer.param_groups for p in group["params"]), torch.device("cpu"))
    if device.type != "cuda" or not is_bitsandbytes(optimizer):
        yield
        return
    current, default = torch.cuda.current_stream(device), torch.cuda.default_stream(device)
    default.wait_stream(current)
    with torch.cuda.stream(default):
        yield
    current.wait_stream(default)


class FlatStep:
    """The step of an optimiser for which :func:`steps_flat`, a buffer at a time.

    Every parameter becomes a view of a buffer, and so do its states, which lie where the optimiser has them: they are
    saved and loaded by tensor.

    Args:
        optimizer: of parameters in float32; states that it has already are taken over.
    """

    def __init__(self, optimizer: Any) -> None:
        self._optimizer = optimizer
        self._buffers = [
            _Buffer(index, members)
            for index, group in enumerate(optimizer.param_groups)
            for members in _divided(group["params"], optimizer.args.min_8bit_size)
        ]
        if self._buffers[0].flat.is_cuda:
            torch.cuda.empty_cache()  # of the tensors that the buffers have taken the place of

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The optimiser's own, by which a loss scaler finds gradients."""
        return self._optimizer.param_groups  # type: ignore[no-any-return]

    def flat_gradients(self, more: int) -> Tensor:
        """One buffer of zeros for all gradients, and ``more`` numbers behind them; each ``grad`` is a view of it."""
        device = self._buffers[0].flat.device
        whole = torch.zeros(sum(buffer.flat.numel() for buffer in self._buffers) + more, device=device)
        start = 0
        for buffer in self._buffers:
            buffer.give_gradients(whole[start : start + buffer.flat.numel()])
            start += buffer.flat.numel()
        return whole

    @torch.no_grad()
    def step(self) -> None:
        """One step of all parameters that have a gradient; what cannot be stepped at once is stepped by tensor."""
        for buffer in self._buffers:
            if buffer.whole_gradient() and buffer.collect(self._optimizer):
                buffer.step(self._optimizer)
            else:
                buffer.step_each(self._optimizer)


class _Member:
    """A weight within a buffer: where it is among the group's, where it begins, and its parts of what is flat."""

    def __init__(self, index: int, parameter: nn.Parameter, start: int) -> None:
        self.index, self.parameter, self.start = index, parameter, start
        self.gradient: Tensor | None = None
        self.states: dict[str, Tensor] = {}

    def view(self, flat: Tensor) -> Tensor:
        """This weight's part of ``flat``, which has a number for each weight."""
        return flat[self.start : self.start + self.parameter.numel()].view(self.parameter.shape)

    def state_view(self, key: str, flat: Tensor) -> Tensor:
        """This weight's part of the state ``key``, which has a number for each weight or for each block."""
        if _SHARE[key] == 1:
            return self.view(flat)
        return flat[self.start // BLOCK : (self.start + _padded(self.parameter.numel())) // BLOCK]


class _Buffer:
    """Weights of one group, one behind the other, each begun at a multiple of 256.

    Args:
        group: the group's index.
        members: the weights, with their indices in the group.
    """

    def __init__(self, group: int, members: Sequence[tuple[int, nn.Parameter]]) -> None:
        self._group = group
        self._members: list[_Member] = []
        end = 0
        for index, parameter in members:
            self._members.append(_Member(index, parameter, end))
            end += _padded(parameter.numel())
        self.flat = nn.Parameter(torch.zeros(end, device=members[0][1].device), requires_grad=False)
        self._state: dict[str, Any] = {}
        self._collect_weights()

    def give_gradients(self, flat: Tensor) -> None:
        """Make parts of ``flat`` the gradients."""
        self.flat.grad = flat
        for member in self._members:
            member.gradient = member.parameter.grad = member.view(flat)

    def whole_gradient(self) -> bool:
        """Whether all gradients are those of :meth:`give_gradients`: a frozen weight has none."""
        return all(m.gradient is not None and m.parameter.grad is m.gradient for m in self._members)

    def collect(self, optimizer: Any) -> bool:
        """Have weights and states lie in the buffers; False where states differ in kind or age."""
        self._collect_weights()
        first = optimizer.state[self._members[0].parameter]
        for member in self._members:
            state = optimizer.state[member.parameter]
            if not state:
                optimizer.init_state(optimizer.param_groups[self._group], member.parameter, self._group, member.index)
            if not self._state:
                self._state = _flat_state(first, self.flat)
            if state["step"] != first["step"] or state["state1"].dtype != self._state["state1"].dtype:
                return False
            for key in _SHARE.keys() & self._state.keys():
                if key not in member.states:
                    member.states[key] = member.state_view(key, self._state[key])
                if state[key] is not member.states[key]:  # a new state, or one that was loaded
                    member.states[key].copy_(state[key])
                    state[key] = member.states[key]
        return True

    def step(self, optimizer: Any) -> None:
        """One call for all weights, once :meth:`collect` has said that it may be."""
        states = [optimizer.state[member.parameter] for member in self._members]
        self._state["step"] = states[0]["step"]
        group, index = optimizer.param_groups[self._group], self._members[0].index
        optimizer.state[self.flat] = self._state
        try:
            optimizer.update_step(group, self.flat, self._group, index)
        finally:
            del optimizer.state[self.flat]
        for state in states:
            state["step"] = self._state["step"]

    def step_each(self, optimizer: Any) -> None:
        """A call for each weight that has a gradient."""
        group = optimizer.param_groups[self._group]
        for member in self._members:
            if member.parameter.grad is None:
                continue
            if not optimizer.state[member.parameter]:
                optimizer.init_state(group, member.parameter, self._group, member.index)
            optimizer.update_step(group, member.parameter, self._group, member.index)

    @torch.no_grad()
    def _collect_weights(self) -> None:
        for member in self._members:
            view = member.view(self.flat.data)
            if member.parameter.data_ptr() != view.data_ptr():
                view.copy_(member.parameter.data)
                member.parameter.data = view


def _padded(numbers: int) -> int:
    return -(-numbers // BLOCK) * BLOCK


def _divided(parameters: Sequence[nn.Parameter], least: int) -> Iterator[list[tuple[int, nn.Parameter]]]:
    """The weights of each buffer, with their indices: those below ``least`` weights, which have other states, apart."""
    on_gpu = bool(parameters) and parameters[0].device.type == "cuda"
    most = _MOST_ON_GPU if on_gpu else _MOST_ELSEWHERE
    for small in (False, True):
        members: list[tuple[int, nn.Parameter]] = []
        size = 0
        for index, parameter in enumerate(parameters):
            if (parameter.numel() < least) != small:
                continue
            if members and size + _padded(parameter.numel()) > most:
                yield members
                members, size = [], 0
            members.append((index, parameter))
            size += _padded(parameter.numel())
        if members:
            yield members


def _flat_state(like: Mapping[str, Any], flat: Tensor) -> dict[str, Any]:
    """A state of the kind of ``like`` for all numbers of ``flat``, all of them 0; maps of numbers are shared."""
    made = dict(like)
    for key in _SHARE.keys() & like.keys():
        made[key] = torch.zeros(flat.numel() // _SHARE[key], dtype=like[key].dtype, device=flat.device)
        if like[key].dtype == torch.uint8:
            made[key].fill_(int(like[f"qmap{key[-1]}"].abs().argmin()))  # so that the padding counts for nothing
    return made
