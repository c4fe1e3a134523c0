"""The 8-bit step of a whole parameter group beside the same step of one tensor after another, bit for bit.

``blockwise`` is a small stand-in for bitsandbytes, with its blocks of 256, its states and its ways in; the others are
bitsandbytes itself on a CPU, where it is installed.
"""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from loratools.train.config.optimizer import OptimizerConfig
from loratools.train.optim.flat_step import BLOCK, FlatStep, steps_flat
from loratools.train.optim.optimizers import build_optimizer
from loratools.train.step.update import FlatUpdate, Update

SHAPES = ((7,), (64, 65), (300,), (70, 80), (5000,)), ((4097,), (9,), (16, 8, 3, 3), (96, 96))
KINDS = ("blockwise", "AdamW8bit", "Lion8bit", "SGDNesterov8bit", "bitsandbytes.optim.RMSprop8bit")


class Blockwise(torch.optim.Optimizer):
    """Momentum with blocks of 256, as bitsandbytes' optimisers are called: no block knows of another."""

    optimizer_name, is_paged = "momentum", False

    def __init__(self, params: Any) -> None:
        super().__init__(params, {})
        self.args = SimpleNamespace(min_8bit_size=4096, optim_bits=8, max_unorm=0.0)
        self.map = torch.linspace(-1, 1, 255)
        self.sizes: list[int] = []

    def init_state(self, group: dict[str, Any], p: Tensor, gindex: int, pindex: int) -> None:
        eight = p.numel() >= 4096
        state = self.state[p]
        state.update(step=0, state1=torch.zeros_like(p, dtype=torch.uint8 if eight else torch.float32))
        if eight:
            state.update(qmap1=self.map, absmax1=torch.zeros(-(-p.numel() // BLOCK)))

    def update_step(self, group: dict[str, Any], p: Tensor, gindex: int, pindex: int) -> None:
        state = self.state[p]
        state["step"] += 1
        self.sizes.append(p.numel())
        short = -p.numel() % BLOCK
        moments = state["state1"].flatten()
        if state["state1"].dtype == torch.uint8:
            largest = state["absmax1"].repeat_interleave(BLOCK)[: p.numel()]
            moments = state["qmap1"][moments.long()] * largest
        moments = 0.9 * moments + p.grad.flatten()  # type: ignore[union-attr]
        p.data.sub_(group["lr"] * moments.view_as(p) / state["step"])
        if state["state1"].dtype == torch.uint8:
            blocks = nn.functional.pad(moments, (0, short)).view(-1, BLOCK)
            state["absmax1"].copy_(blocks.abs().amax(1))
            codes = (blocks / state["absmax1"].unsqueeze(1).clamp(min=1e-30) * 127).round() + 127
            moments = codes.flatten()[: p.numel()].to(torch.uint8)
        state["state1"].copy_(moments.view_as(p))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        parameters = [p for group in self.param_groups for p in group["params"]]
        self.state.clear()  # torch's own would make float32 of what has 8 bits
        self.state.update({parameters[key]: copy.deepcopy(value) for key, value in state_dict["state"].items()})

    def step(self, closure: Any = None) -> None:
        for gindex, group in enumerate(self.param_groups):
            for pindex, p in enumerate(group["params"]):
                if p.grad is not None:
                    if not self.state[p]:
                        self.init_state(group, p, gindex, pindex)
                    self.update_step(group, p, gindex, pindex)


Blockwise.__module__ = "bitsandbytes.optim.stand_in"


class Run:
    """Weights in two groups, one of rate 1e-3 and one of 3e-3, stepped by tensor or flat."""

    def __init__(self, kind: str, *, flat: bool) -> None:
        drawn = torch.Generator().manual_seed(1)
        self.groups = [[nn.Parameter(torch.randn(shape, generator=drawn)) for shape in shapes] for shapes in SHAPES]
        groups = [
            {"params": group, "lr": rate, "name": str(rate)}
            for group, rate in zip(self.groups, (1e-3, 3e-3), strict=True)
        ]
        self.optimizer: Any
        if kind == "blockwise":
            self.optimizer = Blockwise(groups)
        else:
            pytest.importorskip("bitsandbytes")
            arguments = {"weight_decay": 0.1}
            self.optimizer = build_optimizer(OptimizerConfig(optimizer=kind, optimizer_args=arguments), groups)
        self.calls = 0
        self.flat = FlatStep(self.optimizer) if flat else None
        self.buffer = self.flat.flat_gradients(1) if self.flat is not None else None

    def steps(self, first: int, last: int, frozen: tuple[int, ...] = ()) -> None:
        for step in range(first, last):
            drawn = torch.Generator().manual_seed(100 + step)
            for index, group in enumerate(self.groups):
                for number, parameter in enumerate(group):
                    gradient = torch.randn(parameter.shape, generator=drawn) * 10.0**-number
                    gradient[gradient.abs() < 10.0 ** -(number + 1)] = 0
                    if index in frozen:
                        parameter.grad = None
                    elif self.flat is None:
                        parameter.grad = gradient
                    else:
                        parameter.grad.copy_(gradient)  # type: ignore[union-attr]
            (self.optimizer if self.flat is None else self.flat).step()

    def everything(self) -> list[Tensor]:
        parameters = [parameter for group in self.groups for parameter in group]
        states = [self.optimizer.state[parameter] for parameter in parameters if parameter in self.optimizer.state]
        values = [value for state in states for _, value in sorted(state.items())]
        return [*(p.detach() for p in parameters), *(torch.as_tensor(value) for value in values)]


def assert_same(one: Run, two: Run) -> None:
    first, second = one.everything(), two.everything()
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        assert a.dtype == b.dtype and torch.equal(a, b)


@pytest.mark.parametrize("kind", KINDS)
def test_a_call_for_a_group_is_the_calls_for_its_tensors_bit_for_bit(kind: str) -> None:
    single, flat = Run(kind, flat=False), Run(kind, flat=True)
    assert steps_flat(flat.optimizer)
    single.steps(0, 5)
    flat.steps(0, 5)
    assert_same(single, flat)
    codes = flat.optimizer.state[flat.groups[0][1]]["state1"]
    assert codes.dtype == torch.uint8 and codes.unique().numel() > 10


def test_a_group_is_two_calls_and_no_block_holds_two_tensors() -> None:
    flat = Run("blockwise", flat=True)
    flat.steps(0, 1)
    assert flat.optimizer.sizes == [4352 + 5632 + 5120, 256 + 512, 4352 + 9216, 256 + 1280]
    assert all(p.data_ptr() % 4 == 0 and p.is_contiguous() for group in flat.groups for p in group)
    big = [flat.groups[0][1], flat.groups[0][3], flat.groups[0][4]]
    starts = [(p.data_ptr() - big[0].data_ptr()) // 4 for p in big]
    assert starts == [0, 4352, 4352 + 5632]


@pytest.mark.parametrize("kind", KINDS[:2])
@pytest.mark.parametrize("flat_first", [False, True])
def test_a_saved_state_goes_on_either_way_to_the_bit(kind: str, flat_first: bool) -> None:
    whole, before, after = Run(kind, flat=False), Run(kind, flat=flat_first), Run(kind, flat=not flat_first)
    whole.steps(0, 6)
    before.steps(0, 3)
    saved = copy.deepcopy(before.optimizer.state_dict())
    after.steps(0, 1)  # what is replaced
    after.optimizer.load_state_dict(saved)
    with torch.no_grad():
        for mine, theirs in zip(after.groups, before.groups, strict=True):
            for into, value in zip(mine, theirs, strict=True):
                into.copy_(value)
    after.steps(3, 6)
    assert_same(whole, after)


@pytest.mark.parametrize("kind", KINDS[:2])
def test_a_frozen_group_stays_and_states_of_unequal_age_are_stepped_alone(kind: str) -> None:
    single, flat = Run(kind, flat=False), Run(kind, flat=True)
    for run in (single, flat):
        run.steps(0, 2)
        run.optimizer.state[run.groups[1][0]]["step"] = 7
        run.steps(2, 4)
        run.steps(4, 6, frozen=(0,))
    assert_same(single, flat)


def test_weights_that_were_moved_elsewhere_are_taken_back() -> None:
    single, flat = Run("blockwise", flat=False), Run("blockwise", flat=True)
    for run in (single, flat):
        run.steps(0, 2)
        for parameter in run.groups[0]:
            parameter.data = parameter.data.clone() + 1
        run.steps(2, 3)
    assert_same(single, flat)


def test_a_loss_scaler_unscales_and_skips_as_for_the_optimizer_itself() -> None:
    def scaled(flat: bool) -> tuple[Run, list[Tensor]]:
        run = Run("blockwise", flat=False)
        kind = FlatUpdate if flat else Update
        update = kind(run.optimizer, torch.amp.GradScaler("cpu", init_scale=8.0), clip=0.5)
        update.scaler.scale(torch.ones(()))  # which begins the scale
        update.flat_gradients(1, torch.device("cpu"))
        skipped = []
        for step in range(3):
            for number, parameter in enumerate(update.parameters):
                drawn = torch.Generator().manual_seed(10 * step + number)
                parameter.grad.copy_(8 * torch.randn(parameter.shape, generator=drawn))  # type: ignore[union-attr]
            if step == 1:
                update.parameters[0].grad[0] = torch.inf  # type: ignore[index]
            update.finish()
            skipped.append(update.parameters[0].detach().clone())
        return run, skipped

    (single, first), (flat, second) = scaled(False), scaled(True)
    assert torch.equal(second[0], second[1]) and not torch.equal(second[1], second[2])
    assert all(torch.equal(one, two) for one, two in zip(first, second, strict=True))
    assert_same(single, flat)


def test_what_is_not_elementwise_or_has_its_states_on_the_host_steps_as_ever() -> None:
    def made(**changed: Any) -> Any:
        optimizer = Run("blockwise", flat=False).optimizer
        for key, value in changed.items():
            holder = optimizer.args if hasattr(optimizer.args, key) else optimizer
            setattr(holder, key, value)
        return optimizer

    assert steps_flat(made())
    for changed in ({"optimizer_name": "lamb"}, {"is_paged": True}, {"optim_bits": 32}, {"max_unorm": 1.0}):
        assert not steps_flat(made(**changed))
    assert not steps_flat(torch.optim.AdamW([nn.Parameter(torch.zeros(1))]))
