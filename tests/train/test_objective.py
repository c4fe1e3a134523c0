from __future__ import annotations

import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.optimization import get_scheduler

from loratools.errors import TrainingError
from loratools.pocket.architecture import scheduler_config
from loratools.train import objective
from loratools.train.schedule import build_optimizer, optimizer_class, rate_factor, warmup_steps


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_noising_and_targets_are_those_of_diffusers(prediction: str) -> None:
    config = {**scheduler_config(), "prediction_type": prediction}
    plan, peer = objective.schedule(config), DDPMScheduler.from_config(config)
    torch.testing.assert_close(plan.abar, peer.alphas_cumprod)
    x, noise, t = torch.randn(3, 4, 8, 8), torch.randn(3, 4, 8, 8), torch.tensor([0, 500, 999])
    torch.testing.assert_close(objective.noised(plan, x, noise, t), peer.add_noise(x, noise, t))
    wanted = noise if prediction == "epsilon" else peer.get_velocity(x, noise, t)
    torch.testing.assert_close(objective.target(plan, x, noise, t), wanted)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_min_snr_weights(prediction: str) -> None:
    plan = objective.schedule({**scheduler_config(), "prediction_type": prediction})
    t = torch.tensor([0, 300, 999])
    snr = plan.abar[t] / (1 - plan.abar[t])
    below = snr if prediction == "epsilon" else snr + 1
    expected = torch.minimum(snr, torch.tensor(5.0)) / below
    torch.testing.assert_close(objective.weights(plan, t, 5.0), expected)
    assert objective.weights(plan, t, None).tolist() == [1, 1, 1]


def test_loss_is_the_mean_over_each_sample() -> None:
    a, b = torch.randn(2, 4, 3, 3), torch.randn(2, 4, 3, 3)
    expected = torch.stack([((a[i] - b[i]) ** 2).mean() * w for i, w in enumerate((1.0, 0.5))])
    torch.testing.assert_close(objective.loss(a, b, torch.tensor([1.0, 0.5])), expected)


def test_noise_offset_moves_whole_channels() -> None:
    noise, offset = torch.randn(2, 4, 3, 3), torch.randn(2, 4, 1, 1)
    moved = objective.offset_noise(noise, offset, 0.1) - noise
    torch.testing.assert_close(moved, (0.1 * offset).expand_as(noise), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("key", "value"), [("beta_schedule", "squaredcos_cap_v2"), ("prediction_type", "sample")])
def test_other_schedules_are_refused(key: str, value: str) -> None:
    with pytest.raises(TrainingError, match=value):
        objective.schedule({**scheduler_config(), key: value})


@pytest.mark.parametrize("name", ["constant", "constant_with_warmup", "cosine", "linear", "cosine_with_restarts"])
def test_rates_are_those_of_diffusers(name: str) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    peer = get_scheduler(name, optimizer, num_warmup_steps=5, num_training_steps=40, num_cycles=1)
    for step in range(40):
        cycles = 1
        assert rate_factor(name, step, 40, 5, cycles=cycles) == pytest.approx(peer.get_last_lr()[0], abs=1e-9), step
        optimizer.step()
        peer.step()


def test_warmup_and_polynomial() -> None:
    assert [warmup_steps(w, 200) for w in (0, 0.1, 1, 30)] == [0, 20, 1, 30]
    assert rate_factor("polynomial", 10, 20, 0, power=2.0) == pytest.approx(0.25)


def test_optimizers() -> None:
    groups = [{"params": [torch.zeros(2, requires_grad=True)], "lr": 1.0}]
    assert optimizer_class("adamw") is torch.optim.AdamW
    assert optimizer_class("torch.optim.sgd.SGD") is torch.optim.SGD
    assert build_optimizer("AdamW", {"weight_decay": 0.5}, groups).param_groups[0]["weight_decay"] == 0.5
    for name, message in (("AdamW8bits", "no optimizer 'AdamW8bits'.*AdamW"), ("no.such.Thing", "cannot be imported"),
                          ("math.sqrt", "is not an optimizer")):  # fmt: skip
        with pytest.raises(TrainingError, match=message):
            optimizer_class(name)
    with pytest.raises(TrainingError, match=r"no argument 'weight_decays' \(did you mean 'weight_decay'"):
        build_optimizer("AdamW", {"weight_decays": 0.5}, groups)
