from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from loratools.base.load import load_base
from loratools.base.model import Base
from loratools.base.picture_size import check_size
from loratools.base.prompt.conditioning import condition
from loratools.base.prompt.guidance import StaticGuidance
from loratools.base.quiet import quiet
from loratools.base.sampling.lms import coefficient
from loratools.base.sampling.sample import Sampling, decode, decode_pixels, denoise
from loratools.base.sampling.samplers import SAMPLERS, find_sampler
from loratools.errors import GridError, PromptError
from tests.base.plain import noise, plain_latents
from tests.base.tiny_xl import save_tiny_xl

PROMPTS = ["1girl, red hair", "blue eyes, ink style"]


@pytest.fixture(scope="module")
def pipe(folder: Path):  # type: ignore[no-untyped-def]
    with quiet():
        from diffusers import StableDiffusionPipeline

        made = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    made.set_progress_bar_config(disable=True)
    return made


def ours(base: Base, sampler: str, seeds: list[int], prompts: list[str] = PROMPTS, cfg: float = 7.5) -> np.ndarray:
    latents = plain_latents(base, prompts, seeds, Sampling(3, cfg, sampler))
    return decode(base, latents).permute(0, 2, 3, 1).numpy()


def theirs(pipe, base: Base, sampler: str, seeds: list[int], cfg: float = 7.5, prompts=PROMPTS) -> np.ndarray:  # type: ignore[no-untyped-def]
    pipe.scheduler = find_sampler(sampler).scheduler(base.scheduler_config)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    return pipe(
        prompts,
        negative_prompt=[""] * len(prompts),
        num_inference_steps=3,
        guidance_scale=cfg,
        output_type="np",
        generator=generators,
    ).images


DIFFUSERS = [name for name, own in SAMPLERS.items() if own.method.kind not in ("", "CFG++")]


@pytest.mark.parametrize("sampler", [*DIFFUSERS, "DPM++ 2M Karras", "UniPC Karras", "Heun Exponential"])
def test_every_sampler_gives_the_pipelines_picture(base: Base, pipe, sampler: str) -> None:  # type: ignore[no-untyped-def]
    assert np.abs(ours(base, sampler, [3, 4]) - theirs(pipe, base, sampler, [3, 4])).max() < 1e-5


def test_without_guidance_too_and_the_comparison_can_fail(base: Base, pipe) -> None:  # type: ignore[no-untyped-def]
    assert np.abs(ours(base, "DDIM", [3, 4], cfg=1) - theirs(pipe, base, "DDIM", [3, 4], cfg=1)).max() < 1e-5
    assert np.abs(ours(base, "DDIM", [3, 5]) - theirs(pipe, base, "DDIM", [3, 4])).max() > 1e-2
    assert np.abs(ours(base, "Euler", [3, 4]) - theirs(pipe, base, "Euler Karras", [3, 4])).max() > 1e-3


@pytest.mark.parametrize("sampler", [*SAMPLERS, "DPM++ 2S a Karras", "Euler a SGM Uniform"])
def test_a_picture_does_not_depend_on_its_neighbours(base: Base, sampler: str) -> None:
    both = ours(base, sampler, [3, 4])
    alone = ours(base, sampler, [4], PROMPTS[1:])
    assert np.abs(both[1] - alone[0]).max() < 1e-4
    assert np.abs(both[0] - alone[0]).max() > 1e-2


def test_pictures_are_bytes_and_the_callback_counts(base: Base) -> None:
    calls: list[int] = []
    guidance = StaticGuidance(condition(base, ["a"]), condition(base, [""]))
    latents = denoise(base, guidance, noise(1, (64, 48)), [1], Sampling(3, 5, "euler"), callback=calls.append)
    images = decode_pixels(base, latents)
    assert images.shape == (1, 64, 48, 3) and images.dtype == torch.uint8
    assert calls == [1, 2, 3]


def test_noise_is_a_function_of_seed_and_size() -> None:
    assert noise(7, (64, 32)).shape == (1, 4, 8, 4)
    assert torch.equal(noise(7, (64, 32)), torch.randn((1, 4, 8, 4), generator=torch.Generator().manual_seed(7)))
    assert not torch.equal(noise(7, (64, 32)), noise(8, (64, 32)))


def test_multistep_weights_are_those_of_adams_bashforth() -> None:
    sigmas = [5.0, 4.0, 3.0, 2.0, 1.0]
    got = [-coefficient(sigmas, 3, j, 4) for j in range(4)]
    assert got == pytest.approx([55 / 24, -59 / 24, 37 / 24, -9 / 24], abs=1e-12)


def test_bad_sizes_steps_and_seeds_are_told(base: Base) -> None:
    with pytest.raises(GridError, match="512x100 does not fit"):
        check_size((100, 512), base.vae_scale_factor)
    guidance = StaticGuidance(condition(base, ["a"]), None)
    with pytest.raises(GridError, match="0 sampler steps"):
        denoise(base, guidance, noise(1, (64, 64)), [1], Sampling(0, 1, "DDIM"))
    with pytest.raises(GridError, match="2 seeds were given for 1"):
        denoise(base, guidance, noise(1, (64, 64)), [1, 2], Sampling(2, 1, "DDIM"))


def test_encoding_is_the_pipelines(base: Base, pipe) -> None:  # type: ignore[no-untyped-def]
    with torch.no_grad():
        wanted = pipe.encode_prompt(PROMPTS, "cpu", 1, False)[0]
    assert torch.equal(condition(base, PROMPTS).hidden, wanted)
    assert condition(base, ["red hair, " * 60]).hidden.shape == (1, 77, 16)


def test_clip_skip_takes_an_earlier_layer_through_the_final_norm(base: Base) -> None:
    inner = getattr(base.text_encoder, "text_model", base.text_encoder)
    tokens = base.tokenizer(PROMPTS, padding="max_length", max_length=77, truncation=True, return_tensors="pt")
    kept: list[torch.Tensor] = []
    first = inner.encoder.layers[0]
    handle = first.register_forward_hook(lambda _m, _i, out: kept.append(out[0] if isinstance(out, tuple) else out))
    with torch.no_grad():
        base.text_encoder(tokens.input_ids)
        handle.remove()
        wanted = inner.final_layer_norm(kept[0])
    assert torch.equal(condition(base, PROMPTS, clip_skip=2).hidden, wanted)
    with pytest.raises(PromptError, match="clip skip 3 is outside 1 to 2"):
        condition(base, PROMPTS, clip_skip=3)
    with pytest.raises(PromptError, match="no prompt"):
        condition(base, [])


def test_sdxl_gives_its_pipelines_picture(tmp_path: Path) -> None:
    folder = save_tiny_xl(tmp_path / "xl")
    base = load_base(folder, device="cpu")
    assert base.family == "sdxl" and len(base.text_encoders) == 2
    with quiet():
        from diffusers import StableDiffusionXLPipeline

        pipe = StableDiffusionXLPipeline.from_pretrained(folder, add_watermarker=False)
    pipe.set_progress_bar_config(disable=True)
    prompts = ["red hair", "blue eyes"]
    made = plain_latents(base, prompts, [3, 4], Sampling(3, 5, "Euler"), negative="bad", size=(64, 64))
    pipe.scheduler = find_sampler("Euler").scheduler(base.scheduler_config)
    wanted = pipe(
        prompts,
        negative_prompt=["bad"] * 2,
        num_inference_steps=3,
        guidance_scale=5,
        output_type="np",
        height=64,
        width=64,
        generator=[torch.Generator().manual_seed(s) for s in (3, 4)],
    ).images
    got = decode(base, made).permute(0, 2, 3, 1).numpy()
    assert np.abs(got - wanted).max() < 1e-5
