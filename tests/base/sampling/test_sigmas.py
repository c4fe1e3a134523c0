from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from loratools.base.sampling.samplers import SAMPLERS, SCHEDULES, find_sampler
from loratools.base.sampling.sigmas import (
    beta_quantile,
    schedule_sigmas,
    timesteps_of,
    training_sigmas,
    uniform_timesteps,
)
from tests.base.sampling.test_samplers import CONFIG


@pytest.fixture(scope="module")
def known() -> Tensor:
    return training_sigmas(CONFIG)


def test_trainings_levels_are_the_noise_schedules(known: Tensor) -> None:
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    kept = torch.cumprod(1 - betas, 0)
    torch.testing.assert_close(known, ((1 - kept) / kept) ** 0.5, rtol=1e-4, atol=0)


@pytest.mark.parametrize("schedule", ["", *SCHEDULES])
@pytest.mark.parametrize("steps", [1, 2, 7, 20])
def test_levels_fall_from_near_the_last_one(known: Tensor, schedule: str, steps: int) -> None:
    sigmas = schedule_sigmas(known, steps, schedule)
    assert len(sigmas) == steps + 1 + (schedule == "DDIM" and steps == 7)
    assert (sigmas[1:] < sigmas[:-1]).all() and sigmas.dtype == torch.float64
    assert sigmas[0] == pytest.approx(float(known[-1]), rel=1e-3) or schedule == "DDIM"
    assert sigmas[-1] == pytest.approx(float(known[0]) if schedule == "KL Optimal" else 0)


def test_levels_by_hand(known: Tensor) -> None:
    low, high = float(known[0]), float(known[-1])
    middle = {
        "": float(known[499] * known[500]) ** 0.5,
        "Normal": float(known[499] * known[500]) ** 0.5,
        "Karras": ((low ** (1 / 7) + high ** (1 / 7)) / 2) ** 7,
        "Exponential": (low * high) ** 0.5,
        "Polyexponential": (low * high) ** 0.5,
        "SGM Uniform": float(known[666]),  # two thirds of 999
        "Simple": float(known[999 - 333]),
        "DDIM": float(known[1 + 333]),
        "Align Your Steps": 1.396,
        "Beta": (low + high) / 2,
        "KL Optimal": math.tan(2 / 3 * math.atan(high) + 1 / 3 * math.atan(low)),
    }
    assert set(middle) == {"", *SCHEDULES}
    for schedule, wanted in middle.items():
        assert schedule_sigmas(known, 3, schedule)[1].item() == pytest.approx(wanted, rel=1e-6), schedule


def test_sdxl_has_aligned_levels_of_its_own(known: Tensor) -> None:
    assert schedule_sigmas(known, 11, "Align Your Steps", xl=True)[4].item() == pytest.approx(1.342)
    assert schedule_sigmas(known, 11, "Align Your Steps")[4].item() == pytest.approx(1.886)
    made = find_sampler("Euler Align Your Steps").make_scheduler(CONFIG, 11, xl=True)
    assert made.sigmas[4].item() == pytest.approx(1.342)


@pytest.mark.parametrize("name", [name for name, own in SAMPLERS.items() if own.method.scheduled and name != "LCM"])
@pytest.mark.parametrize("webui", [False, True])
def test_every_schedule_type_is_heeded(known: Tensor, name: str, webui: bool) -> None:
    """Not for LCM, whose levels lie among its own 50."""
    trim = SAMPLERS[name].method.discard_next_to_last_sigma
    for schedule in SCHEDULES:
        scheduler = find_sampler(f"{name} {schedule}").make_scheduler(CONFIG, 7, webui=webui)
        wanted = schedule_sigmas(known, 7 + trim, schedule)
        if webui or schedule not in ("Karras", "Exponential"):
            assert torch.as_tensor(scheduler.sigmas)[0].item() == pytest.approx(wanted[0].item(), rel=1e-5), schedule
            made = {round(float(level), 3) for level in scheduler.sigmas}
            assert made >= {round(float(level), 3) for level in wanted[1 : -2 if trim else -1]}, schedule
        else:  # diffusers' own may begin at its own first time
            plain = find_sampler(name).make_scheduler(CONFIG, 7, webui=webui)
            assert list(map(float, scheduler.sigmas)) != list(map(float, plain.sigmas)), schedule


def test_quantiles_are_those_of_the_beta_distribution() -> None:
    """SciPy's ``beta.ppf(x, 0.6, 0.6)``."""
    wanted = {0.0: 0, 0.01: 0.0008612388215429, 0.2: 0.1229217504583325, 0.5: 0.5, 0.75: 0.824319621347305, 1.0: 1}
    assert [beta_quantile(x) for x in wanted] == pytest.approx(list(wanted.values()), abs=1e-12)


def test_times_lie_between_trainings(known: Tensor) -> None:
    assert timesteps_of(known, known[[0, 17, 999]]).tolist() == pytest.approx([0, 17, 999])
    assert timesteps_of(known, (known[3:4] * known[4:5]) ** 0.5).item() == pytest.approx(3.5)
    assert timesteps_of(known, torch.tensor([1e-3, 99.0])).tolist() == [0, 999]


def test_the_webuis_even_times() -> None:
    assert uniform_timesteps(1000, 4) == [751, 501, 251, 1]
    assert uniform_timesteps(1000, 12)[:2] == [997, 914] and len(uniform_timesteps(1000, 12)) == 13
    assert find_sampler("DDIM").make_scheduler(CONFIG, 4, webui=True).timesteps.tolist() == [751, 501, 251]
    assert find_sampler("PLMS").make_scheduler(CONFIG, 4, webui=True).timesteps.tolist() == [751, 501, 501, 251]
    assert find_sampler("DDIM").make_scheduler(CONFIG, 1, webui=True).timesteps.tolist() == [1]
    own = {**CONFIG, "timestep_spacing": "trailing", "steps_offset": 0}
    assert find_sampler("DDIM").make_scheduler(own, 4).timesteps.tolist() == [999, 749, 499, 249]
