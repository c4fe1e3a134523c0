from __future__ import annotations

import pytest
import torch
from diffusers import DDPMScheduler

from loratools.base.model import Base
from loratools.base.prompt.conditioning import condition
from loratools.base.prompt.guidance import ComposedGuidance, StaticGuidance
from loratools.base.sampling.noise import initial_latents
from loratools.base.sampling.noise_kinds import NOISE_KINDS
from loratools.base.sampling.sample import Sampling, denoise, plain_unet
from loratools.base.sampling.samplers import SAMPLERS, SCHEDULES, find_sampler, from_webui, split_name
from loratools.errors import GridError
from tests.base.plain import plain_conditionings

CONFIG = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "steps_offset": 1,
    "timestep_spacing": "leading",
}
WEBUI_1_8 = (  # the list of names before schedule types were a setting of their own
    "DPM++ 2M Karras; DPM++ SDE Karras; DPM++ 2M SDE Exponential; DPM++ 2M SDE Karras; Euler a; Euler; LMS; Heun; "
    "DPM2; DPM2 a; DPM++ 2S a; DPM++ 2M; DPM++ SDE; DPM++ 2M SDE; DPM++ 2M SDE Heun; DPM++ 2M SDE Heun Karras; "
    "DPM++ 2M SDE Heun Exponential; DPM++ 3M SDE; DPM++ 3M SDE Karras; DPM++ 3M SDE Exponential; DPM fast; LMS Karras; "
    "DPM2 Karras; DPM2 a Karras; DPM++ 2S a Karras; Restart; DDIM; PLMS; UniPC; LCM"
)


@pytest.mark.parametrize("name", WEBUI_1_8.split("; "))
def test_the_webuis_old_names_are_ours(name: str) -> None:
    assert find_sampler(name).name == name


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("dpm++ 2m", "DPM++ 2M"),
        ("sample_dpmpp_2m", "DPM++ 2M"),
        ("dpmpp_2m_karras", "DPM++ 2M Karras"),
        ("k_euler_a", "Euler a"),
        ("Euler ancestral", "Euler a"),
        ("sample_euler_ancestral", "Euler a"),
        ("EULER", "Euler"),
        ("PNDM", "PLMS"),
        ("uni_pc", "UniPC"),
        ("DPM++ SDE exponential", "DPM++ SDE Exponential"),
        ("sample_dpmpp_sde", "DPM++ SDE"),
        ("dpm_2_ancestral", "DPM2 a"),
        ("lms karras", "LMS Karras"),
        ("lcm", "LCM"),
        ("k_dpmpp_2m_sde_heun_ka", "DPM++ 2M SDE Heun Karras"),
        ("k_dpmpp_2m_sde_exp", "DPM++ 2M SDE Exponential"),
        ("sample_dpmpp_2s_ancestral", "DPM++ 2S a"),
        ("euler_sgm_uniform", "Euler SGM Uniform"),
        ("SGMUniform Euler", ""),
        ("Euler SGMUniform", "Euler SGM Uniform"),
        ("Euler AYS", "Euler Align Your Steps"),
        ("UniPC Karras", "UniPC Karras"),
        ("Heun DDIM", "Heun DDIM"),
        ("ddim_cfgpp", "DDIM CFG++"),
        ("Euler Uniform", "Euler"),
        ("DPM++ 2M Uniform", "DPM++ 2M"),
        ("Euler Automatic", "Euler"),
        ("DPM++ 2M Automatic", "DPM++ 2M Karras"),
        ("DPM++ 3M SDE automatic", "DPM++ 3M SDE Exponential"),
        ("DDIM Automatic", "DDIM"),
    ],
)
def test_samplers_are_known_by_many_names(spelling: str, name: str) -> None:
    if name:
        assert find_sampler(spelling).name == name
        return
    with pytest.raises(GridError, match="no sampler"):
        find_sampler(spelling)


def test_automatic_is_what_the_webui_takes() -> None:
    usual = {name: find_sampler(f"{name} Automatic").schedule for name in SAMPLERS}
    karras = {"DPM++ 2M", "DPM++ SDE", "DPM++ 2S a", "DPM2", "DPM2 a", "Restart"}
    exponential = {"DPM++ 2M SDE", "DPM++ 2M SDE Heun", "DPM++ 3M SDE"}
    assert {name for name, schedule in usual.items() if schedule == "Karras"} == karras
    assert {name for name, schedule in usual.items() if schedule == "Exponential"} == exponential
    assert set(usual.values()) == {"", "Karras", "Exponential"}


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        (("DPM++ 2M", ""), "DPM++ 2M"),
        (("DPM++ 2M", "Automatic"), "DPM++ 2M Karras"),
        (("DPM++ 2M", "Uniform"), "DPM++ 2M"),
        (("DPM++ 2M Karras", ""), "DPM++ 2M Karras"),
        (("DPM++ 2M Karras", "Exponential"), "DPM++ 2M Karras"),
        (("Euler", "Automatic"), "Euler"),
        (("Euler", "KL Optimal"), "Euler KL Optimal"),
        (("DDIM", "Karras"), "DDIM"),
        (("UniPC", "Karras"), "UniPC"),
        (("DPM fast", "Karras"), "DPM fast"),
        (("LCM", "SGM Uniform"), "LCM SGM Uniform"),
    ],
)
def test_the_webuis_two_settings(settings: tuple[str, str], name: str) -> None:
    assert from_webui(*settings).name == name


def test_the_two_settings_that_are_written_are_read_back() -> None:
    for plain, sampler in SAMPLERS.items():
        for schedule in ("", *(SCHEDULES if sampler.method.scheduled else ())):
            name, kind = split_name(f"{plain} {schedule}")
            assert (name, kind or "Automatic") != (plain, "Automatic") or not sampler.method.automatic
            assert find_sampler(f"{name} {kind}").name == f"{plain} {schedule}".strip()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("DPM++ 2M Karas", r"did you mean 'DPM\+\+ 2M Karras'"),
        ("zzz", "there are DDIM"),
        ("Euler Turbo", "no sampler 'Euler Turbo'"),
        ("DDIM Karras", "DDIM has noise levels of its own.*'Karras'"),
        ("DPM adaptive", "cannot share; use 'DPM fast'"),
        ("dpm_adaptive_karras", "use 'DPM fast'"),
    ],
)
def test_what_is_no_sampler_is_told(name: str, message: str) -> None:
    with pytest.raises(GridError, match=message):
        find_sampler(name)


def test_karras_comes_only_by_name(base: Base) -> None:
    config = {**base.scheduler_config, "use_karras_sigmas": True}
    assert not find_sampler("DPM++ 2M").scheduler(config).config.use_karras_sigmas
    assert find_sampler("DPM++ 2M Karras").scheduler(base.scheduler_config).config.use_karras_sigmas
    own, karras = (
        find_sampler("Euler").make_scheduler(each, 9, webui=True) for each in (base.scheduler_config, config)
    )
    assert torch.equal(own.sigmas, karras.sigmas)


CALLS = {"Heun": 39, "DPM2": 39, "DPM2 a": 39, "DPM++ 2S a": 39, "DPM++ SDE": 39, "Restart": 39, "PLMS": 21}


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_run_makes_as_many_model_calls_as_it_says(base: Base, name: str) -> None:
    """n, or 2n - 1 where the last step of two calls ends at 0; the WebUI's DDIM does not call its last time."""
    timed = name in ("DDIM", "DDIM CFG++", "PLMS")
    for webui in (False, True):
        scheduler = find_sampler(name).make_scheduler(CONFIG, 20, webui=webui)
        assert len(scheduler.timesteps) == CALLS.get(name, 20) - (timed and webui), webui
    for kind in NOISE_KINDS:
        calls: list[float] = []

        def counted(*inputs: torch.Tensor) -> torch.Tensor:
            calls.append(float(inputs[1]))  # noqa: B023
            return plain_unet(base)(*inputs)

        fixed = StaticGuidance(condition(base, ["a"]), condition(base, [""]))
        denoise(base, fixed, initial_latents(kind, 1, (64, 64)), [1], Sampling(3, 4.0, name, kind), unet=counted)
        said = find_sampler(name).make_scheduler(base.scheduler_config, 3, webui=kind != "own").timesteps
        assert calls == pytest.approx(said.tolist())


def test_cfg_plus_plus_needs_the_negative_prompt_at_any_scale(base: Base) -> None:
    """At 12.5, the paper's 1, the picture follows the prompt alone, and is noised again by the negative one."""
    assert find_sampler("DDIM CFG++").guided(1) and find_sampler("DDIM CFG++").scale(12.5) == 1
    assert not find_sampler("DDIM").guided(1) and find_sampler("DDIM").scale(7) == 7
    prompts = plain_conditionings(base, ["1girl", ""])
    start, sampling = initial_latents("own", 1, (64, 64)), Sampling(4, 12.5, "DDIM CFG++")
    composed = denoise(base, ComposedGuidance(prompts[:1], prompts[1:]), start, [1], sampling)
    made = [
        denoise(
            base,
            StaticGuidance(condition(base, ["1girl"]), condition(base, [negative])),
            start,
            [1],
            sampling,
        )
        for negative in ("", "bad, worse")
    ]
    assert (made[0] - made[1]).abs().max() > 1e-2
    torch.testing.assert_close(made[0], composed, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_begins_at_pure_noise_where_the_base_does(name: str) -> None:
    config = {**CONFIG, "prediction_type": "v_prediction", "rescale_betas_zero_snr": True}
    usual, scheduler = (find_sampler(name).make_scheduler(one, 8) for one in (CONFIG, config))
    if hasattr(scheduler, "alphas_cumprod"):
        assert 0 <= scheduler.alphas_cumprod[-1] < 1e-7 < usual.alphas_cumprod[-1]
        wanted = DDPMScheduler.from_config(config).alphas_cumprod[:-1]
        torch.testing.assert_close(scheduler.alphas_cumprod[:-1], wanted, atol=1e-6, rtol=1e-3)
    else:
        assert scheduler.init_noise_sigma > 4000 and usual.init_noise_sigma < 15
