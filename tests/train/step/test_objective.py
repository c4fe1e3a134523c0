"""The objective against diffusers' scheduler, sd-scripts' formulas written out, and statistics of what is drawn."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler
from pydantic import ValidationError
from torch.nn import functional

from loratools.errors import TrainingError
from loratools.pocket.architecture import scheduler_config
from loratools.train.config.objective import ObjectiveConfig
from loratools.train.step import objective
from loratools.train.step.multires_noise import enlarged, multires

SHAPE = (3, 4, 8, 8)
TIMES = torch.tensor([0, 300, 999])


def settings(**given: Any) -> ObjectiveConfig:
    return ObjectiveConfig.model_validate(given)


def plan(prediction: str = "epsilon", **given: Any) -> objective.NoiseSchedule:
    return objective.noise_schedule({**scheduler_config(), "prediction_type": prediction}, settings(**given))


def drawn(seed: int = 0, shape: tuple[int, ...] = SHAPE, **given: Any) -> objective.Draws:
    return objective.draw(shape, 1000, settings(**given), torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_noising_and_targets_are_those_of_diffusers(prediction: str) -> None:
    config = {**scheduler_config(), "prediction_type": prediction}
    ours, peer = objective.noise_schedule(config), DDPMScheduler.from_config(config)
    torch.testing.assert_close(ours.abar, peer.alphas_cumprod)
    x, noise = torch.randn(SHAPE), torch.randn(SHAPE)
    torch.testing.assert_close(objective.noised(ours, x, noise, TIMES), peer.add_noise(x, noise, TIMES))
    wanted = noise if prediction == "epsilon" else peer.get_velocity(x, noise, TIMES)
    torch.testing.assert_close(objective.target(ours, x, noise, TIMES), wanted)


def test_zero_terminal_snr_is_that_of_diffusers() -> None:
    ours = plan("v_prediction", zero_terminal_snr=True)
    peer = DDPMScheduler.from_config(
        {**scheduler_config(), "prediction_type": "v_prediction", "rescale_betas_zero_snr": True}
    )
    torch.testing.assert_close(ours.abar[:-1], peer.alphas_cumprod[:-1], atol=1e-6, rtol=1e-3)
    assert ours.abar[-1] == 0 and not torch.equal(ours.abar, plan("v_prediction").abar)
    every = {"min_snr_gamma": 5, "debiased_estimation_loss": True, "scale_v_pred_loss_like_noise_pred": True}
    assert objective.weights(ours, TIMES, settings(**every)).isfinite().all()  # snr is 0 at the last
    delta = objective.thresholds(ours, TIMES, settings(huber_schedule="snr"))
    assert delta[-1].item() == pytest.approx(0.1)


def test_a_base_that_cannot_say_what_it_predicts_is_told() -> None:
    ours = objective.noise_schedule(scheduler_config(), settings(prediction="v_prediction"))
    assert plan().prediction == "epsilon" and ours.prediction == "v_prediction"


@pytest.mark.parametrize(
    ("prediction", "given", "formula"),
    [
        ("epsilon", {}, lambda s: 1.0),
        ("epsilon", {"min_snr_gamma": 5}, lambda s: min(s, 5) / s),
        ("v_prediction", {"min_snr_gamma": 5}, lambda s: min(s, 5) / (s + 1)),
        ("epsilon", {"debiased_estimation_loss": True}, lambda s: 1 / math.sqrt(min(s, 1000))),
        ("v_prediction", {"debiased_estimation_loss": True}, lambda s: 1 / (min(s, 1000) + 1)),
        ("v_prediction", {"scale_v_pred_loss_like_noise_pred": True}, lambda s: min(s, 1000) / (min(s, 1000) + 1)),
        ("epsilon", {"v_pred_like_loss": 0.3}, lambda s: 1 + 0.3 * (min(s, 1000) + 1) / min(s, 1000)),
        (
            "epsilon",
            {"min_snr_gamma": 1, "v_pred_like_loss": 0.3},
            lambda s: min(s, 1) / s * (1 + 0.3 * (min(s, 1000) + 1) / min(s, 1000)),
        ),
    ],
)
def test_weights_by_signal_to_noise(prediction: str, given: dict[str, Any], formula: Any) -> None:
    ours = plan(prediction, **given)
    snr = (ours.abar / (1 - ours.abar)).tolist()
    wanted = torch.tensor([formula(snr[t]) for t in TIMES.tolist()])
    torch.testing.assert_close(objective.weights(ours, TIMES, settings(**given)), wanted)


@pytest.mark.parametrize("schedule", ["snr", "exponential", "constant"])
@pytest.mark.parametrize("kind", ["l2", "l1", "huber", "smooth_l1"])
def test_losses(kind: str, schedule: str) -> None:
    given = settings(loss_type=kind, huber_schedule=schedule, huber_c=0.2, huber_scale=1.5)
    a, b, ours = torch.randn(SHAPE), torch.randn(SHAPE), plan()
    abar = ours.abar[TIMES]
    sigma = torch.sqrt(1 / abar - 1)
    delta = (
        1.5
        * {
            "snr": 0.8 / (1 + sigma) ** 2 + 0.2,
            "exponential": torch.exp(math.log(0.2) * TIMES / 1000),
            "constant": torch.full((3,), 0.2),
        }[schedule][:, None, None, None]
    )
    root = 2 * (torch.sqrt((a - b) ** 2 + delta**2) - delta)
    wanted = {"l2": (a - b) ** 2, "l1": (a - b).abs(), "huber": delta * root, "smooth_l1": root}[kind]
    torch.testing.assert_close(objective.errors(a, b, TIMES, ours, given), wanted)


def test_a_loss_is_the_mean_over_each_sample_times_its_mask_and_weight() -> None:
    error, weight = torch.rand(2, 4, 4, 4), torch.tensor([1.0, 0.5])
    torch.testing.assert_close(objective.reduced(error, weight), error.mean((1, 2, 3)) * weight)
    mask = torch.zeros(2, 1, 8, 8)
    mask[0, :, :, :4] = 1  # the left half, at twice the size; none of the second
    wanted = torch.stack([error[0, :, :, :2].sum() / error[0].numel(), torch.zeros(())])
    torch.testing.assert_close(objective.reduced(error, torch.ones(2), mask), wanted)


def test_defaults_draw_as_they_always_did() -> None:
    """Bit for bit, in this order: a run that was started before goes on as it would have."""
    generator = torch.Generator().manual_seed(5)
    times = torch.randint(0, 1000, (3,), generator=generator)
    noise = torch.randn(SHAPE, generator=generator)
    offset = torch.randn((3, 4, 1, 1), generator=generator)
    posterior = torch.randn(SHAPE, generator=generator)
    ours = drawn(5, noise_offset=0.1)
    assert torch.equal(ours.timesteps, times) and torch.equal(ours.posterior, posterior)
    assert torch.equal(ours.noise, noise + 0.1 * offset)
    assert torch.equal(drawn(5).noise, noise)


def test_timesteps_stay_in_their_range() -> None:
    times = drawn(shape=(4000, 1, 1, 1), min_timestep=300, max_timestep=310).timesteps
    assert sorted(set(times.tolist())) == list(range(300, 310))


def test_a_random_offset_is_a_share_of_it() -> None:
    plain, moved = drawn(3), [drawn(3, noise_offset=0.2)]
    moved.append(drawn(3, noise_offset=0.2, noise_offset_random_strength=True))
    offset = torch.randn((3, 4, 1, 1), generator=_after(3, torch.zeros(SHAPE)))
    shares = [((each.noise - plain.noise) / offset).flatten() for each in moved]
    torch.testing.assert_close(shares[0], torch.full_like(shares[0], 0.2), atol=1e-4, rtol=1e-3)
    assert shares[1].std() < 1e-4 and 0 < shares[1].mean() < 0.2


def _after(seed: int, noise: torch.Tensor) -> torch.Generator:
    generator = torch.Generator().manual_seed(seed)
    torch.randint(0, 1000, (len(noise),), generator=generator)
    torch.randn(noise.shape, generator=generator)
    return generator


@pytest.mark.parametrize("scale", [0.5, -5.0])
def test_an_adaptive_offset_follows_the_latents_means(scale: float) -> None:
    given = settings(noise_offset=0.1, adaptive_noise_scale=scale)
    draws, latents = drawn(2, noise_offset=0.1, adaptive_noise_scale=scale), torch.randn(SHAPE) + 1
    offset = torch.randn((3, 4, 1, 1), generator=_after(2, latents))
    strength = (0.1 + scale * latents.mean((2, 3), keepdim=True).abs()).clamp(min=0)
    torch.testing.assert_close(objective.target_noise(draws, latents, given), draws.noise + strength * offset)
    torch.testing.assert_close(
        objective.target_noise(draws.rows(1, 3), latents[1:], given), (draws.noise + strength * offset)[1:]
    )


def test_perturbation_is_seen_but_not_named() -> None:
    plain, draws = drawn(4), drawn(4, ip_noise_gamma=0.1)
    assert torch.equal(objective.target_noise(draws, torch.zeros(SHAPE), settings()), plain.noise)
    moved = objective.perturbed(draws, draws.noise) - draws.noise
    assert moved.std().item() == pytest.approx(0.1, rel=0.15) and torch.equal(plain.posterior, draws.posterior)
    weaker = drawn(4, ip_noise_gamma=0.1, ip_noise_gamma_random_strength=True).perturbation
    assert weaker is not None
    share = weaker / moved
    assert 0 < share.mean() < 1 and share.std() < 1e-4


@pytest.mark.parametrize(("rows", "columns"), [(8, 8), (3, 5), (1, 4), (7, 1)])
def test_a_grid_is_enlarged_as_torch_does_it(rows: int, columns: int) -> None:
    grid = torch.randn(2, 4, 8, 8)
    wanted = functional.interpolate(grid[..., :rows, :columns], (16, 20), mode="bilinear")
    resized = enlarged(grid, torch.tensor(float(rows)), torch.tensor(float(columns)), (16, 20))
    torch.testing.assert_close(resized, wanted, atol=1e-5, rtol=1e-4)


def test_multires_noise_is_the_pyramid_of_sd_scripts() -> None:
    """The definition with real shapes, from the same draws; levels end with the first of one row or column."""
    noise, discount, iterations = torch.randn(2, 4, 24, 16), 0.7, 8
    layered = multires(noise, iterations, discount, torch.Generator().manual_seed(9))
    generator = torch.Generator().manual_seed(9)
    ratios = 2 + 2 * torch.rand(iterations, generator=generator)
    total = noise.clone()
    for level in range(iterations):
        most = (max(1, 24 >> level), max(1, 16 >> level))
        grid = torch.randn((2, 4, *most), generator=generator)
        rows, columns = (max(1, int(side / ratios[level].item() ** level)) for side in (24, 16))
        total += functional.interpolate(grid[..., :rows, :columns], (24, 16), mode="bilinear") * discount**level
        if rows == 1 or columns == 1:
            break
    assert level < iterations - 1
    torch.testing.assert_close(layered, total / total.std(), atol=1e-5, rtol=1e-4)
    assert layered.std().item() == pytest.approx(1)


def test_multires_noise_is_drawn_where_it_is_asked_for() -> None:
    shape = (4, 4, 32, 32)
    plain, coarse = drawn(6, shape), drawn(6, shape, multires_noise_iterations=6, multires_noise_discount=0.8)
    smooth = [functional.avg_pool2d(draws.noise, 8).std().item() for draws in (plain, coarse)]
    assert smooth[1] > 1.3 * smooth[0]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"min_timestep": 5, "max_timestep": 5}, "min_timestep 5 leaves nothing"),
        ({"adaptive_noise_scale": 0.1}, "adaptive_noise_scale changes the noise_offset"),
        ({"noise_offset_random_strength": True}, "noise_offset_random_strength changes"),
        ({"ip_noise_gamma_random_strength": True}, "which is 0"),
        ({"noise_offset": 0.1, "adaptive_noise_scale": 0.1, "multires_noise_iterations": 6}, "keep one"),
        ({"huber_c": 0}, "huber_c"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        settings(**given)


@pytest.mark.parametrize(
    ("prediction", "given", "message"),
    [
        ("epsilon", {"zero_terminal_snr": True}, "zero_terminal_snr ends in pure noise"),
        ("epsilon", {"scale_v_pred_loss_like_noise_pred": True}, "this one predicts epsilon"),
        ("v_prediction", {"v_pred_like_loss": 0.1}, "this one predicts v"),
        ("epsilon", {"max_timestep": 1001}, "above the base's 1000 timesteps"),
        ("epsilon", {"min_timestep": 1000}, "not below the base's 1000"),
        ("sample", {}, "predicts 'sample'"),
    ],
)
def test_settings_that_contradict_the_base_are_refused(prediction: str, given: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        plan(prediction, **given)


def test_other_beta_schedules_are_refused() -> None:
    with pytest.raises(TrainingError, match="squaredcos_cap_v2"):
        objective.noise_schedule({**scheduler_config(), "beta_schedule": "squaredcos_cap_v2"})
