"""What surrounds a captured graph: keys of shapes, buffers, and learning rates in tensors."""

from __future__ import annotations

import torch
from torch import nn

from loratools.train.step.batch import Inputs
from loratools.train.step.cuda_graph import copy_into, device_rates, set_rate, shape_key
from tests.train.step.test_executor import inputs


def test_a_captured_shape_depends_on_every_input() -> None:
    one = inputs(0)
    assert shape_key(one) == shape_key(inputs(5))
    other = [
        Inputs(torch.zeros(1, 3), torch.zeros(1, 3)),
        Inputs(one.mean.half(), one.deviation),
        Inputs(one.mean, one.deviation, tokens=torch.zeros(2, 77, dtype=torch.int64)),
    ]
    assert len({shape_key(each) for each in (one, *other)}) == 4


def test_rates_stay_numbers_on_a_cpu_and_a_state_from_a_gpu_is_brought_back() -> None:
    w = nn.Parameter(torch.ones(2))
    optimizer = torch.optim.AdamW([{"params": [w], "lr": torch.tensor(0.25)}], fused=True, capturable=True)
    device_rates(optimizer, torch.device("cpu"))
    group = optimizer.param_groups[0]
    assert group["lr"] == 0.25 and isinstance(group["lr"], float) and not group["capturable"]
    set_rate(group, 0.5)
    assert group["lr"] == 0.5
    group["lr"] = held = torch.tensor(0.5)
    set_rate(group, 0.125)
    assert group["lr"] is held and float(held) == 0.125


def xl_inputs(tokens: tuple[torch.Tensor, ...] | None = None) -> Inputs:
    sizes = torch.tensor([[100.0, 80, 3, 5, 64, 64], [64, 64, 0, 0, 64, 64]])
    return Inputs(torch.rand(2, 4, 8, 8), torch.rand(2, 4, 8, 8), tokens=tokens, time_ids=sizes)


def test_a_graphs_buffers_take_every_field() -> None:
    tokens = tuple(torch.full((2, 1, 77), value) for value in (1, 2))
    one, two = xl_inputs(tokens), xl_inputs(tuple(ids + 5 for ids in tokens))
    static = one.to(torch.device("cpu"), copy=True)
    assert shape_key(one) == shape_key(two) != shape_key(xl_inputs())
    two.time_ids.add_(1)
    copy_into(static, two)
    assert static.tokens is not None and [int(ids[0, 0, 0]) for ids in static.tokens] == [6, 7]
    assert torch.equal(static.time_ids, two.time_ids) and not torch.equal(static.time_ids, one.time_ids)
