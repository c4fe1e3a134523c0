"""The WebUI's samplers written out as in their papers, on its levels: a seed makes the picture that it makes there."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from loratools.base.guide import Fixed
from loratools.base.lms import coefficient
from loratools.base.model import Base
from loratools.base.noise import Philox, initial
from loratools.base.sample import denoise_guided, plain_unet
from loratools.base.text import condition
from loratools.base.webui_steps import levels, times

STEPS, CFG, SEED, SIZE = 6, 4.0, 11, (64, 64)
Denoise = Callable[[Tensor, float], Tensor]


def training(base: Base) -> Tensor:
    config = base.scheduler_config
    betas = torch.linspace(config["beta_start"] ** 0.5, config["beta_end"] ** 0.5, 1000, dtype=torch.float64) ** 2
    kept = torch.cumprod(1 - betas, 0)
    return ((1 - kept) / kept) ** 0.5


def euler(x: Tensor, sigmas: list[float], denoise: Denoise, noise: Philox) -> Tensor:
    """Karras et al. 2022, algorithm 1 without its second order."""
    for now, after in itertools.pairwise(sigmas):
        x = x + (x - denoise(x, now)) / now * (after - now)
    return x


def ancestral(x: Tensor, sigmas: list[float], denoise: Denoise, noise: Philox) -> Tensor:
    """Euler to a lower level, and fresh noise back up."""
    for now, after in itertools.pairwise(sigmas):
        up = (after**2 * (now**2 - after**2) / now**2) ** 0.5
        x = x + (x - denoise(x, now)) / now * ((after**2 - up**2) ** 0.5 - now)
        if after:
            x = x + noise.normal(x.shape) * up
    return x


def heun(x: Tensor, sigmas: list[float], denoise: Denoise, noise: Philox) -> Tensor:
    """Karras et al. 2022, algorithm 1."""
    for now, after in itertools.pairwise(sigmas):
        slope = (x - denoise(x, now)) / now
        moved = x + slope * (after - now)
        if after:
            slope = (slope + (moved - denoise(moved, after)) / after) / 2
        x = x + slope * (after - now)
    return x


def linear_multistep(x: Tensor, sigmas: list[float], denoise: Denoise, noise: Philox) -> Tensor:
    slopes: list[Tensor] = []
    for n, now in enumerate(sigmas[:-1]):
        slopes = [(x - denoise(x, now)) / now, *slopes][:4]
        for j, slope in enumerate(slopes):
            x = x + coefficient(sigmas, n, j, len(slopes)) * slope
    return x


def dpmpp_2m(x: Tensor, sigmas: list[float], denoise: Denoise, noise: Philox) -> Tensor:
    """Lu et al. 2022, DPM-Solver++, algorithm 2, in the variance-exploding form."""
    before: tuple[Tensor, float] | None = None
    log = torch.tensor(sigmas).double().log().neg().tolist()
    for n, (now, after) in enumerate(itertools.pairwise(sigmas)):
        clean, step = denoise(x, now), log[n + 1] - log[n]
        mixed = clean
        if before is not None and after:
            ratio = before[1] / step
            mixed = (1 + 1 / (2 * ratio)) * clean - 1 / (2 * ratio) * before[0]
        x = after / now * x + (1 - after / now) * mixed
        before = clean, step
    return x


@pytest.mark.parametrize(
    ("sampler", "formula", "schedule"),
    [
        ("Euler", euler, ""), ("Euler Karras", euler, "Karras"), ("Euler a", ancestral, ""), ("Heun", heun, ""),
        ("LMS", linear_multistep, ""), ("LMS Karras", linear_multistep, "Karras"), ("DPM++ 2M", dpmpp_2m, ""),
        ("DPM++ 2M Karras", dpmpp_2m, "Karras"), ("DPM++ 2M Exponential", dpmpp_2m, "Exponential"),
        ("Heun Exponential", heun, "Exponential"),
    ],
)  # fmt: skip
def test_a_seed_makes_the_webuis_picture(base: Base, sampler: str, formula, schedule: str) -> None:  # type: ignore[no-untyped-def]
    fixed, unet, known = Fixed(condition(base, ["1girl"]), condition(base, [""])), plain_unet(base), training(base)

    def denoise(x: Tensor, sigma: float) -> Tensor:
        time = times(known, torch.tensor([sigma]))[0].float()
        told = unet(torch.cat([x, x]) / (sigma**2 + 1) ** 0.5, time, fixed.at(0).hidden, None)
        return x - sigma * fixed.mix(told, CFG)

    sigmas = levels(known, STEPS, schedule).tolist()
    noise = Philox(SEED)
    with torch.no_grad():
        wanted = formula(noise.normal((1, 4, 8, 8)) * sigmas[0], sigmas, denoise, noise)
    got, other = (denoise_guided(base, fixed, initial(kind, SEED, SIZE), STEPS, CFG, sampler, seeds=[SEED], kind=kind)
                  for kind in ("webui-gpu", "own"))  # fmt: skip
    scale = wanted.std()
    assert (got - wanted).abs().max() < 2e-3 * scale
    assert (other - wanted).abs().max() > 0.1 * scale


def test_levels_and_times_by_hand(base: Base) -> None:
    known = training(base)
    assert levels(known, 3)[[0, -2, -1]].tolist() == pytest.approx([known[-1].item(), known[0].item(), 0])
    assert levels(known, 3)[1].item() == pytest.approx((known[499] * known[500]).item() ** 0.5)
    middle = ((known[0] ** (1 / 7) + known[-1] ** (1 / 7)) / 2) ** 7
    assert levels(known, 3, "Karras").tolist() == pytest.approx([known[-1].item(), middle.item(), known[0].item(), 0])
    middle = (known[0] * known[-1]) ** 0.5
    assert levels(known, 3, "Exponential")[1].item() == pytest.approx(middle.item())
    assert times(known, known[[0, 17, 999]]).tolist() == pytest.approx([0, 17, 999])
    assert times(known, (known[3:4] * known[4:5]) ** 0.5).item() == pytest.approx(3.5)


def test_the_webuis_ddim_takes_its_times(base: Base) -> None:
    from loratools.base.samplers import find_sampler

    config = {**base.scheduler_config, "timestep_spacing": "trailing", "steps_offset": 0}
    assert find_sampler("DDIM").prepared(config, 4, webui=True).timesteps.tolist() == [751, 501, 251, 1]
    assert find_sampler("DDIM").prepared(config, 4).timesteps.tolist() == [999, 749, 499, 249]
