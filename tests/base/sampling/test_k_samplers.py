"""Samplers on denoisers with a known answer: data of one or two normal clouds, whose posterior mean is a formula."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from loratools.base.sampling.brownian import BrownianPath
from loratools.base.sampling.k_samplers import K_SAMPLERS, restart_steps
from loratools.base.sampling.k_scheduler import KScheduler, model_sigmas
from loratools.base.sampling.samplers import SCHEDULES, find_sampler
from loratools.base.sampling.sigmas import schedule_sigmas, training_sigmas
from tests.base.sampling.test_samplers import CONFIG

SPREAD, MEAN = 0.5, 0.7
Denoise = Callable[[Tensor, float], Tensor]


def one_cloud(x: Tensor, sigma: float) -> Tensor:
    return (SPREAD**2 * x + sigma**2 * MEAN) / (SPREAD**2 + sigma**2)


def two_clouds(x: Tensor, sigma: float) -> Tensor:
    """Around -1 and 1."""
    whole = SPREAD**2 + sigma**2
    return (SPREAD**2 * x + sigma**2 * torch.tanh(x / whole)) / whole


def run(name: str, denoise: Denoise, x: Tensor, steps: int, webui: bool) -> Tensor:
    """The sampling loop with ``denoise`` for a UNet; ``x`` has unit variance."""
    scheduler = find_sampler(name).make_scheduler(CONFIG, steps, webui=webui)
    given = {"noise": None} if isinstance(scheduler, KScheduler) else {}
    unit = hasattr(scheduler, "lambda_t")  # keeps pictures of unit variance
    x = x * scheduler.init_noise_sigma
    for index, time in enumerate(scheduler.timesteps):
        sigma = float(scheduler.sigmas[index])
        wide = x * (sigma**2 + 1) ** 0.5 if unit else x
        scheduler.scale_model_input(x, time)
        x = scheduler.step((wide - denoise(wide, sigma)) / sigma, time, x, **given, return_dict=False)[0]
    return x


def heun(denoise: Denoise, x: Tensor, steps: int = 4000) -> Tensor:
    """A fine solution of the probability-flow ODE: Karras et al. 2022, algorithm 1."""
    sigmas = schedule_sigmas(training_sigmas(CONFIG), steps, "Karras").tolist()
    x = x * sigmas[0]
    for now, after in itertools.pairwise(sigmas):
        slope = (x - denoise(x, now)) / now
        ahead = x + slope * (after - now)
        x = ahead if not after else x + (slope + (ahead - denoise(ahead, after)) / after) / 2 * (after - now)
    return x


@pytest.fixture(scope="module")
def start() -> Tensor:
    return torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(1)).double()


@pytest.fixture(scope="module")
def solution(start: Tensor) -> Tensor:
    return heun(two_clouds, start)


ODE = {"Euler": 0.04, "Heun": 0.01, "LMS": 0.01, "DPM2": 0.02, "DPM++ 2M": 0.01, "UniPC": 0.01, "DPM++ 2S": 0.02}


@pytest.mark.parametrize("schedule", ["", *SCHEDULES])
@pytest.mark.parametrize("name", ODE)
def test_every_schedule_leads_to_the_same_solution(start: Tensor, solution: Tensor, name: str, schedule: str) -> None:
    coarse, fine = (
        (run(f"{name} {schedule}", two_clouds, start, steps, webui=bool(schedule)) - solution).abs().mean()
        for steps in (10, 80)
    )
    assert fine < ODE[name] and fine < coarse / 2


@pytest.mark.parametrize("name", ["DPM2", "Restart"])  # Restart below 20 steps only walks down
def test_second_order_means_a_quarter_of_the_error(name: str) -> None:
    x = torch.linspace(-2, 2, 41, dtype=torch.float64)
    errors = []
    for steps in (8, 16, 32):
        sigmas = schedule_sigmas(training_sigmas(CONFIG), steps, "Karras")
        sampler, at = K_SAMPLERS[name], sigmas.tolist()
        if name == "Restart" and steps > 16:
            break
        moved = solved(sampler, x, at)
        start = at[0]
        exact = MEAN + (x * start - MEAN) * (SPREAD**2 / (SPREAD**2 + start**2)) ** 0.5
        errors.append((moved - exact).abs().max().item())
    assert all(finer < coarser / 3 for coarser, finer in itertools.pairwise(errors))


def solved(formula, x: Tensor, sigmas: list[float], noise=None) -> Tensor:  # type: ignore[no-untyped-def]
    solver = formula(x * sigmas[0], sigmas, noise or (lambda now, after: torch.zeros_like(x)))
    held, level = next(solver)
    while True:
        try:
            held, level = solver.send(one_cloud(held, level))
        except StopIteration as end:
            return end.value


NOISY = (
    "DPM2 a",
    "DPM++ 2S a",
    "DPM++ SDE",
    "DPM++ 2M SDE",
    "DPM++ 2M SDE Heun",
    "DPM++ 3M SDE",
    "DPM fast",
    "Restart",
)


@pytest.mark.parametrize("name", NOISY)
def test_samples_have_the_clouds_mean_and_spread(name: str) -> None:
    draw = torch.Generator().manual_seed(2)
    x = torch.randn(40000, generator=draw).double()
    steps = 90 if name == "DPM fast" else 40
    sigmas = schedule_sigmas(training_sigmas(CONFIG), steps, "Karras").tolist()

    def numbers() -> Tensor:
        return torch.randn(len(x), generator=draw).double()

    made = solved(K_SAMPLERS[name], x, sigmas, BrownianPath(numbers) if "SDE" in name else lambda now, after: numbers())
    assert made.mean().item() == pytest.approx(MEAN, abs=0.01)
    assert made.std().item() == pytest.approx(SPREAD, abs=0.02)


def test_fast_steps_make_the_calls_that_they_are_given() -> None:
    for calls in range(1, 12):
        sigmas = schedule_sigmas(training_sigmas(CONFIG), calls).tolist()
        assert len(model_sigmas(K_SAMPLERS["DPM fast"], sigmas)) == calls


@pytest.mark.parametrize("steps", [8, 19, 20, 35, 36, 50])
def test_restarts_keep_to_the_number_of_steps(steps: int) -> None:
    sigmas = schedule_sigmas(training_sigmas(CONFIG), steps, "Karras").tolist()
    made = restart_steps(sigmas)
    assert len(made) == steps and made[-1][1] == 0 and made[0][0] == pytest.approx(sigmas[0])
    back = [(before[1], after[0]) for before, after in itertools.pairwise(made) if after[0] != before[1]]
    assert len(back) == (0 if steps < 20 else 1 if steps < 36 else 2)
    assert all(0.02 < low < 0.3 and 1 < high < 3.5 for low, high in back)


def test_both_predictions_say_the_same(start: Tensor) -> None:
    """Salimans and Ho 2022, eq. for v: alpha * noise - sigma * clean, at unit variance."""
    made = []
    for kind in ("epsilon", "v_prediction"):
        scheduler = find_sampler("DPM2 Karras").make_scheduler({**CONFIG, "prediction_type": kind}, 9)
        x = start * scheduler.init_noise_sigma
        for sigma, time in zip(scheduler.sigmas, scheduler.timesteps, strict=True):
            clean, alpha = two_clouds(x, sigma), (sigma**2 + 1) ** -0.5
            noise = (x - clean) / sigma
            output = noise if kind == "epsilon" else alpha * noise - alpha * sigma * clean
            x = scheduler.step(output, time, x, None)[0]
        made.append(x)
    torch.testing.assert_close(made[0], made[1], rtol=1e-3, atol=1e-4)


def test_extrapolation_is_exact_for_a_clean_picture_on_a_line() -> None:
    """Linear in lambda = -log sigma, the first difference carries all of it, without noise and after the first step."""
    sigmas = [8.0, 4.0, 2.0, 1.0]

    def drifting(x: Tensor, sigma: float) -> Tensor:
        return torch.tensor(3.0 - torch.tensor(sigma).log().item(), dtype=torch.float64)

    solver = K_SAMPLERS["DPM++ 3M SDE"](torch.tensor(5.0).double(), sigmas, lambda now, after: torch.zeros(()))
    held, level = next(solver)
    seen = [held]
    try:
        while True:
            held, level = solver.send(drifting(held, level))
            seen.append(held)
    except StopIteration as end:
        seen.append(end.value)
    for (now, after), before, moved in list(zip(itertools.pairwise(sigmas), seen, seen[1:], strict=False))[1:]:
        h = torch.tensor(now / after).log().item()
        at = torch.linspace(0, h, 20001, dtype=torch.float64)
        drift = 2 * torch.exp(-2 * (h - at)) * (3.0 - torch.tensor(now).log().item() + at)
        wanted = before * torch.exp(torch.tensor(-2 * h)) + torch.trapezoid(drift, at)
        assert moved.item() == pytest.approx(wanted.item(), rel=1e-6)
