"""Stochastic rounding, and the optimiser's step within the backward pass, on a toy of two layers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from loratools.train.config.optimizer import OptimizerConfig
from loratools.train.network.master import Master, Masters
from loratools.train.network.rounding import round_stochastically
from loratools.train.optim.optimizers import build_optimizer
from loratools.train.step.update import InBackward, Update, WeightByWeight

STEPS = 10_000
_FIXED = {"relative_step": False, "scale_parameter": False, "warmup_init": False}
_ARGUMENTS: dict[str, dict[str, object]] = {"Adafactor": _FIXED, "AdamW8bit": {"min_8bit_size": 1}}


def test_small_updates_move_the_mean_and_rounding_to_the_nearest_loses_them() -> None:
    """10,000 updates of 1e-4 of a last place are one last place on the average."""
    ulp = 2.0**-7  # of numbers from 1 to 2 in bfloat16
    weights = torch.ones(4096, dtype=torch.bfloat16)
    nearest, generator = weights.clone(), torch.Generator().manual_seed(3)
    for _ in range(STEPS):
        round_stochastically(weights, weights.float() + 1e-4 * ulp, generator)
        nearest.copy_(nearest.float() + 1e-4 * ulp)
    assert torch.equal(nearest, torch.ones_like(nearest))
    added = float(torch.tensor(1.0) + 1e-4 * ulp) - 1  # as float32 can add it to 1
    moved, wanted = float((weights.float() - 1).mean() / ulp), STEPS * added / ulp
    # each weight takes about 1 step of an ulp, with a variance near 1: the mean of 4096 is within 4 sigma
    assert abs(wanted - 1) < 0.07 and abs(moved - wanted) < 4 / 64, (moved, wanted)


def test_rounding_is_exact_where_nothing_is_rounded_and_keeps_what_is_no_number() -> None:
    value = torch.tensor([1.0, -2.5, 0.0, float("inf"), float("-inf")])
    into = torch.empty(5, dtype=torch.bfloat16)
    round_stochastically(into, value)
    assert torch.equal(into.float(), value)
    round_stochastically(into[:1], torch.tensor([float("nan")]))
    assert into[0].isnan()
    down, up = torch.tensor(1.0), torch.tensor(1.0 + 2.0**-7)
    between = torch.full((1000,), 1.0 + 2.0**-9)
    drawn = torch.empty(1000, dtype=torch.bfloat16)
    round_stochastically(drawn, between, torch.Generator().manual_seed(0))
    assert set(drawn.float().tolist()) == {float(down), float(up)}
    negative = torch.empty(1000, dtype=torch.bfloat16)
    round_stochastically(negative, -between, torch.Generator().manual_seed(0))
    assert abs(float((drawn.float() == up).float().mean()) - 0.25) < 0.06
    assert abs(float((negative.float() == -up).float().mean()) - 0.25) < 0.06


class Toy:
    """Two layers, trained as a base's weights are: in float32, beside bfloat16 copies, or in bfloat16 alone."""

    def __init__(self, optimizer: str, *, fused: bool, clip: float, weights: str = "fp32") -> None:
        torch.manual_seed(1)
        self.net = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4))
        exact = {name: parameter.detach().clone() for name, parameter in self.net.named_parameters()}
        self.net.to(torch.float32 if weights == "fp32" else torch.bfloat16).requires_grad_(False)
        kept = exact if weights == "masters" else dict.fromkeys(exact)
        self.masters = Masters({name: Master(live, kept[name]) for name, live in self.net.named_parameters()})
        leaves = [master.leaf for master in self.masters.values()]
        groups = [{"params": leaves[:2], "lr": 1e-2, "name": "a"}, {"params": leaves[2:], "lr": 3e-2, "name": "b"}]
        arguments = {"weight_decay": 0.1, **_ARGUMENTS.get(optimizer, {})}
        self.optimizer = build_optimizer(OptimizerConfig(optimizer=optimizer, optimizer_args=arguments), groups)
        scaler = torch.amp.GradScaler("cpu", enabled=False)
        if fused:
            self.update: Update = InBackward(self.masters, self.optimizer, scaler, clip=clip)
        elif weights == "bf16":
            self.update = WeightByWeight(self.masters, self.optimizer, scaler, clip=clip)
        else:
            self.update = Update(self.optimizer, scaler, clip=clip, after=self.masters.weights_changed)

    def run(self, steps: int = 4) -> dict[str, torch.Tensor]:
        dtype = next(self.net.parameters()).dtype
        with self.masters.attached(), torch.random.fork_rng():
            for step in range(steps):
                x = torch.randn(6, 8, generator=torch.Generator().manual_seed(step))
                torch.manual_seed(step)
                for within in self.update.passes:
                    with within():
                        self.net(x.to(dtype)).float().square().mean().backward()
                self.update.finish()
                for parameter in self.update.parameters:
                    parameter.grad = None
        return {name: master.held.detach().float().clone() for name, master in self.masters.items()}


@pytest.mark.parametrize("optimizer", ["AdamW", "AdamW8bit", "Adafactor", "Lion", "SGDNesterov"])
@pytest.mark.parametrize("weights", ["fp32", "masters"])
def test_a_step_within_the_backward_pass_is_the_step_after_it_bit_for_bit(optimizer: str, weights: str) -> None:
    if optimizer == "AdamW8bit":
        pytest.importorskip("bitsandbytes")
    one, two = (Toy(optimizer, fused=fused, clip=0, weights=weights) for fused in (False, True))
    after, within = one.run(), two.run()
    assert all(torch.equal(after[name], within[name]) for name in after)
    states = [toy.optimizer.state_dict()["state"] for toy in (one, two)]
    assert states[0].keys() == states[1].keys()  # so that a run may go on either way
    held = two.optimizer.state[next(iter(two.masters.values())).leaf]
    assert optimizer != "AdamW8bit" or held["state1"].dtype == torch.uint8
    assert all(master.live.grad is None for master in two.masters.values())


@pytest.mark.parametrize("optimizer", ["AdamW", "Lion"])
def test_clipping_within_the_backward_pass_is_by_the_norm_of_all_gradients(optimizer: str) -> None:
    after, within = (Toy(optimizer, fused=fused, clip=1e-3).run() for fused in (False, True))
    for name in after:
        torch.testing.assert_close(within[name], after[name], rtol=1e-6, atol=1e-8)
    plain = Toy("SGDNesterov", fused=True, clip=0).run()
    clipped, by_hand = (Toy("SGDNesterov", fused=fused, clip=1e-3).run() for fused in (True, False))
    assert not torch.equal(plain["0.weight"], clipped["0.weight"])
    torch.testing.assert_close(clipped["0.weight"], by_hand["0.weight"], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("fused", [False, True])
def test_bf16_weights_take_no_memory_for_a_wider_copy_between_steps(fused: bool) -> None:
    toy = Toy("AdamW", fused=fused, clip=0, weights="bf16")
    before = {name: master.held.float() for name, master in toy.masters.items()}
    after, reference = toy.run(8), Toy("AdamW", fused=fused, clip=0).run(8)
    assert all(master.leaf.untyped_storage().nbytes() == 4 for master in toy.masters.values())
    assert all(master.live.dtype == torch.bfloat16 for master in toy.masters.values())
    learnt = torch.cat([(after[name] - before[name]).flatten() for name in after])
    wanted = torch.cat([(reference[name] - before[name]).flatten() for name in after])
    assert float(torch.nn.functional.cosine_similarity(learnt, wanted, dim=0)) > 0.95
