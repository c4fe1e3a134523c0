"""Adafactor's step from tensors alone, as a CUDA graph needs it, beside transformers' own on the host."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from loratools.train.config.optimizer import OptimizerConfig
from loratools.train.optim.optimizers import build_optimizer
from loratools.train.step.cuda_graph import device_rates

FIXED = {"relative_step": False, "warmup_init": False}
KINDS: dict[str, dict[str, Any]] = {
    "as finetune-sdxl": {"scale_parameter": False},
    "scaled": {"scale_parameter": True},
    "momentum and decay": {"scale_parameter": False, "beta1": 0.9, "weight_decay": 0.1},
    "own bounds": {"scale_parameter": True, "eps": (1e-20, 0.5), "clip_threshold": 0.3, "decay_rate": -0.5},
}
SHAPES = ((6, 5), (4, 3, 3, 3), (7,))  # a matrix, a convolution, a bias


def built(arguments: dict[str, Any], *, on_device: bool) -> torch.optim.Optimizer:
    torch.manual_seed(2)
    parameters = [nn.Parameter(torch.randn(shape)) for shape in SHAPES]
    config = OptimizerConfig(optimizer="Adafactor", optimizer_args={**FIXED, **arguments})
    optimizer = build_optimizer(config, [{"params": parameters, "lr": 1e-2, "name": "unet"}])
    mark(optimizer, on_device)
    return optimizer


def mark(optimizer: torch.optim.Optimizer, on_device: bool) -> None:
    for group in optimizer.param_groups:
        group["capturable"], group["lr"] = on_device, torch.tensor(1e-2) if on_device else 1e-2


def descend(optimizer: torch.optim.Optimizer, steps: int, first: int = 0) -> torch.Tensor:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for step in range(first, first + steps):
        for number, parameter in enumerate(parameters):
            noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(10 * step + number))
            parameter.grad = parameter.detach() + noise
        optimizer.step()
    return torch.cat([parameter.detach().flatten().clone() for parameter in parameters])


@pytest.mark.parametrize("kind", KINDS)
def test_the_step_from_tensors_alone_is_the_step_on_the_host(kind: str) -> None:
    host, device = (descend(built(KINDS[kind], on_device=on_device), 6) for on_device in (False, True))
    torch.testing.assert_close(device, host, rtol=2e-5, atol=2e-6)
    assert not torch.equal(host, descend(built(KINDS[kind], on_device=False), 0))


@pytest.mark.parametrize("first", [False, True])
def test_a_state_goes_on_where_the_other_step_left_it(first: bool) -> None:
    """A run that began on a GPU and goes on on a CPU, and the other way round."""
    whole = descend(built({}, on_device=first), 6)
    mixed = built({}, on_device=first)
    descend(mixed, 3)
    kept = [parameter.detach().clone() for parameter in mixed.param_groups[0]["params"]]
    again = built({}, on_device=not first)
    again.load_state_dict(mixed.state_dict())
    mark(again, not first)
    with torch.no_grad():
        for parameter, before in zip(again.param_groups[0]["params"], kept, strict=True):
            parameter.copy_(before)
    torch.testing.assert_close(descend(again, 3, first=3), whole, rtol=2e-5, atol=2e-6)


def test_rates_that_are_told_by_the_count_stay_on_the_host() -> None:
    parameters = [nn.Parameter(torch.ones(3, 3))]
    config = OptimizerConfig(optimizer="Adafactor", optimizer_args={"relative_step": True})
    with pytest.warns(UserWarning, match="Adafactor chooses its rates itself"):
        optimizer = build_optimizer(config, [{"params": parameters, "lr": None, "name": "unet"}])
    assert "capturable" not in optimizer.defaults
    fixed = built({}, on_device=True)
    device_rates(fixed, torch.device("cpu"))
    assert [(group["capturable"], group["lr"]) for group in fixed.param_groups] == [(False, pytest.approx(1e-2))]
