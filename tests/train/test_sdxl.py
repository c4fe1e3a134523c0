"""SDXL from pictures to a file that diffusers applies: two text encoders, pooled states, size conditioning."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from loratools.adapter.files.file import read
from loratools.base.load import load_base
from loratools.base.prompt.conditioning import condition
from loratools.train.config.config import TrainConfig
from loratools.train.network.network import Network
from loratools.train.step import objective
from loratools.train.step.batch import Inputs
from loratools.train.step.objective import Draws
from loratools.train.step.precision import pick_precision
from loratools.train.step.step import DenoisingStep
from loratools.train.step.text_states import CaptionEncoder
from loratools.train.trainer import train
from tests.base.tiny_xl import save_tiny_xl

Config = Callable[..., TrainConfig]
Pictures = Callable[..., Path]


@pytest.fixture(scope="session")
def tiny_xl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_xl(tmp_path_factory.mktemp("base") / "xl")


def _inputs(rows: int = 2, **text: Any) -> Inputs:
    generator = torch.Generator().manual_seed(3)
    mean, deviation = (torch.rand(rows, 4, 8, 8, generator=generator) for _ in range(2))
    sizes = torch.tensor([[100.0, 80, 3, 5, 64, 64], [64, 64, 0, 0, 64, 64]])[:rows]
    return Inputs(mean, deviation, time_ids=sizes, **text)


def test_a_trained_file_is_what_diffusers_applies(tiny_xl: Path, config: Config, pictures: Pictures) -> None:
    from diffusers import StableDiffusionXLPipeline

    settings = config(
        pictures(count=3, size=(80, 64)),
        base=str(tiny_xl),
        batch_size=1,
        epochs=1,
        dtype="fp32",
        learning_rate=1e-2,
        clip_skip=2,
    )
    result = train(settings, progress=False)
    assert result.steps == 3
    adapter = read(result.epochs[0])
    prefixes = {adapter.stem(name).partition("_text_model")[0] for name in adapter if name.startswith("text")}
    assert prefixes == {"lora_te1", "lora_te2"} and adapter.family == "sdxl"
    # the last layer of the first encoder comes after the states that the UNet reads
    idle = {name for name, delta in adapter.items() if delta.norm() == 0}
    assert all(name.startswith("text_encoder.text_model.encoder.layers.2.") for name in idle)
    pipe = StableDiffusionXLPipeline.from_pretrained(tiny_xl)
    parts = {"unet": pipe.unet, "text_encoder": pipe.text_encoder, "text_encoder_2": pipe.text_encoder_2}
    before = {part: {k: v.clone() for k, v in model.state_dict().items()} for part, model in parts.items()}
    pipe.load_lora_weights(result.epochs[0].parent, weight_name=result.epochs[0].name)
    pipe.fuse_lora()
    pipe.unload_lora_weights()
    changed = {
        part: {
            key: value - before[part][key]
            for key, value in model.state_dict().items()
            if not torch.equal(value, before[part][key])
        }
        for part, model in parts.items()
    }
    assert sum(map(len, changed.values())) == len(adapter) - len(idle)
    for name, delta in adapter.items():
        if name not in idle:
            part, _, path = name.partition(".")
            moved = {key.removeprefix("text_model."): value for key, value in changed[part].items()}
            there = moved[f"{path.removeprefix('text_model.')}.weight"]
            torch.testing.assert_close(there, delta.dense().to(there).reshape(there.shape), rtol=1e-3, atol=1e-6)


def test_the_loss_is_that_of_diffusers_parts(tiny_xl: Path, config: Config, tmp_path: Path) -> None:
    """Against the noised latents, the pipeline's own encode_prompt and the UNet called as the pipeline calls it."""
    from diffusers import StableDiffusionXLPipeline

    base, settings = load_base(tiny_xl, device="cpu"), config(tmp_path, base=str(tiny_xl))
    schedule, precision = objective.noise_schedule(base.scheduler_config), pick_precision(settings, torch.device("cpu"))
    captions = ["1girl, red hair", "blue eyes, smile, hat"]
    network = Network(base, 4, 2, 0)
    for layer in network.layers.values():
        torch.nn.init.normal_(layer.up, std=0.1)
    draws = Draws(torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8), torch.tensor([10, 700]))
    pipe = StableDiffusionXLPipeline.from_pretrained(tiny_xl)
    with network.attached():
        tokenized = CaptionEncoder(base, settings, 10).tokenized(captions)
        step = DenoisingStep(base, network, schedule, settings, precision)
        losses = step.losses(_inputs(tokens=tokenized.tokens), draws)
        cached = step.losses(_inputs().with_text(CaptionEncoder(base, settings, 10).encoded(captions)), draws)
        losses.sum().backward()
        pipe.text_encoder, pipe.text_encoder_2, pipe.unet = *base.text_encoders, base.unet
        hidden, _, pooled, _ = pipe.encode_prompt(captions, device="cpu", do_classifier_free_guidance=False)
        batch = _inputs()
        latents = (batch.mean + batch.deviation * draws.posterior) * pipe.vae.config.scaling_factor
        noisy = pipe.scheduler.__class__.from_config(pipe.scheduler.config)
        abar = noisy.alphas_cumprod[draws.timesteps].view(-1, 1, 1, 1)
        predicted = base.unet(
            abar.sqrt() * latents + (1 - abar).sqrt() * draws.noise,
            draws.timesteps,
            encoder_hidden_states=hidden,
            added_cond_kwargs={"text_embeds": pooled, "time_ids": batch.time_ids},
        ).sample
    wanted = (predicted - draws.noise).square().mean((1, 2, 3))
    torch.testing.assert_close(losses, wanted, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(cached, wanted, rtol=1e-5, atol=1e-6)
    moved = {name for name, layer in network.layers.items() if layer.up.grad is not None and layer.up.grad.any()}
    assert any(name.startswith("text_encoder_2.text_model.encoder.layers.2.") for name in moved)  # through the pooled


def test_size_conditioning_reaches_the_unet(tiny_xl: Path, config: Config, pictures: Pictures) -> None:
    """Pictures of another size before they were cut make another LoRA, though their pixels are the same."""
    from PIL import Image

    small = pictures("small", 1)
    large = pictures("large", 1)
    with Image.open(large / "00.png") as image:
        image.resize((128, 128), Image.Resampling.NEAREST).save(large / "00.png")
    common = {"base": str(tiny_xl), "epochs": 1, "resize_interpolation": "nearest", "te_lr": 0, "dtype": "fp32"}
    one, two = (
        train(config(images, name=images.name, **common), progress=False).epochs[0] for images in (small, large)
    )
    first, second = read(one), read(two)
    assert set(first) == set(second) and all(name.startswith("unet.") for name in first)
    assert any(not torch.equal(first[name].dense(), second[name].dense()) for name in first)


def test_states_of_frozen_encoders_are_those_of_sampling(tiny_xl: Path, config: Config, tmp_path: Path) -> None:
    base = load_base(tiny_xl, device="cpu")
    captions = ["1girl", "hat, smile", "1girl"]
    encoded, wanted = (
        CaptionEncoder(base, config(tmp_path, base=str(tiny_xl)), 10).encoded(captions),
        condition(base, captions),
    )
    torch.testing.assert_close(encoded.hidden, wanted.hidden, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(encoded.pooled, wanted.pooled, rtol=1e-5, atol=1e-6)
