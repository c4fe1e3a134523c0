"""Learning rates against diffusers' and transformers' own schedulers, step by step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import optimization as theirs
from pydantic import ValidationError
from transformers import optimization as transformers_own

from loratools.errors import TrainingError
from loratools.train.config.optimizer import OptimizerConfig, parse_lr_rules
from loratools.train.optim.lr_schedule import LrSchedule, warmup_steps

TOTAL = 40
RULES = "1:7,0.5:20,0.1"
PEERS: dict[str, tuple[dict[str, Any], Callable[..., Any], dict[str, Any]]] = {
    "constant": ({}, theirs.get_constant_schedule, {}),
    "constant_with_warmup": ({"lr_warmup": 5}, theirs.get_constant_schedule_with_warmup, {"num_warmup_steps": 5}),
    "linear": ({"lr_warmup": 5}, theirs.get_linear_schedule_with_warmup,
               {"num_warmup_steps": 5, "num_training_steps": TOTAL}),
    "cosine": ({"lr_warmup": "10%"}, theirs.get_cosine_schedule_with_warmup,
               {"num_warmup_steps": 4, "num_training_steps": TOTAL}),
    "cosine_with_restarts": (
        {"lr_warmup": 5, "lr_cycles": 3}, theirs.get_cosine_with_hard_restarts_schedule_with_warmup,
        {"num_warmup_steps": 5, "num_training_steps": TOTAL, "num_cycles": 3}),
    "polynomial": (
        {"lr_warmup": 0.2, "lr_power": 2.5, "lr_min_ratio": 0.05}, theirs.get_polynomial_decay_schedule_with_warmup,
        {"num_warmup_steps": 8, "num_training_steps": TOTAL, "power": 2.5, "lr_end": 0.05}),
    "piecewise_constant": ({"lr_rules": RULES}, theirs.get_piecewise_constant_schedule, {"step_rules": RULES}),
    "cosine_with_min_lr": (
        {"lr_warmup": 5, "lr_cycles": 3, "lr_min_ratio": 0.2},
        transformers_own.get_cosine_with_min_lr_schedule_with_warmup,
        {"num_warmup_steps": 5, "num_training_steps": TOTAL, "num_cycles": 1.5, "min_lr_rate": 0.2}),
    "warmup_stable_decay": (
        {"lr_warmup": 5, "lr_decay": 0.25, "lr_min_ratio": 0.1}, transformers_own.get_wsd_schedule,
        {"num_warmup_steps": 5, "num_decay_steps": 10, "num_training_steps": TOTAL, "min_lr_ratio": 0.1}),
    "inverse_sqrt": ({"lr_warmup": 5}, transformers_own.get_inverse_sqrt_schedule, {"num_warmup_steps": 5}),
}  # fmt: skip


@pytest.mark.parametrize("name", PEERS)
def test_rates_are_those_of_the_libraries(name: str) -> None:
    settings, make, arguments = PEERS[name]
    config = OptimizerConfig.model_validate({"lr_scheduler": name, **settings})
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    peer = make(optimizer, **arguments)
    ours, wanted = [], []
    for step in range(TOTAL):
        ours.append(LrSchedule.of(config, TOTAL).factor(step))
        wanted.append(peer.get_last_lr()[0])
        optimizer.step()
        peer.step()
    assert ours == pytest.approx(wanted, abs=1e-9)
    assert name == "constant" or len(set(ours)) > 2


@pytest.mark.parametrize("timescale", [None, 50])
def test_inverse_sqrt_without_warm_up(timescale: int | None) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    peer = transformers_own.get_inverse_sqrt_schedule(optimizer, 0, timescale=timescale)
    for step in (0, 1, 7, 300):
        assert LrSchedule("inverse_sqrt", TOTAL, timescale=timescale).factor(step) == peer.lr_lambdas[0](step)


def test_warm_up_is_steps_or_a_share() -> None:
    assert [warmup_steps(w, 200) for w in (0, 0.1, 1, 30)] == [0, 20, 1, 30]
    with pytest.raises(TrainingError, match="no learning-rate schedule 'cosines'"):
        LrSchedule("cosines", 2).factor(1)


def test_rules_are_read_or_refused() -> None:
    assert parse_lr_rules("1:10, 0.5:20,0.1") == [(1.0, 10), (0.5, 20), (0.1, float("inf"))]
    for text in ("1:10,0.5:20", "1;10,0.5", "1:20,0.5:10,0.1", "-1"):
        with pytest.raises(ValueError, match="lr_rules"):
            parse_lr_rules(text)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr_scheduler": "piecewise_constant"}, "piecewise_constant needs lr_rules"),
        ({"lr_scheduler": "warmup_stable_decay"}, "needs lr_decay"),
        ({"lr_decay": 5}, "lr_decay is for lr_scheduler warmup_stable_decay"),
        ({"lr_min_ratio": 0.1}, "lr_min_ratio is for"),
        ({"lr_timescale": 9}, "inverse_sqrt"),
        ({"lr_warmup": "120%"}, "120%"),
    ],
)
def test_settings_that_would_have_no_say_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        OptimizerConfig.model_validate(settings)
