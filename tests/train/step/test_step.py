"""One step against the formulas written out, on an SD2-shaped base that predicts v."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from loratools.adapter.files.file import read
from loratools.base.load import load_base
from loratools.pocket.architecture import unet_config
from loratools.pocket.assemble import build_parts, save_folder
from loratools.train.config.config import TrainConfig
from loratools.train.network.network import LoraLinear, Network
from loratools.train.step import objective
from loratools.train.step.batch import Inputs
from loratools.train.step.objective import Draws
from loratools.train.step.precision import pick_precision
from loratools.train.step.step import DenoisingStep
from loratools.train.step.text_states import CaptionEncoder
from loratools.train.trainer import train
from tests.tiny import TINY, save_tiny_tokenizer

Config = Callable[..., TrainConfig]
Pictures = Callable[..., Path]


@pytest.fixture(scope="session")
def tiny_sd2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SD1's tree with SD2's linear projections, predicting v."""
    from diffusers import UNet2DConditionModel

    folder = tmp_path_factory.mktemp("base") / "sd2"
    vocabulary = save_tiny_tokenizer(folder / "tokenizer")
    torch.manual_seed(0)
    _, vae, text = build_parts(TINY, vocabulary, scaling_factor=0.5)
    unet = UNet2DConditionModel(**{**unet_config(TINY), "use_linear_projection": True})
    save_folder(folder, unet, vae, text, torch.float32)
    place = folder / "scheduler/scheduler_config.json"
    place.write_text(json.dumps({**json.loads(place.read_text()), "prediction_type": "v_prediction"}))
    return folder


def test_an_sd2_base_that_predicts_v_is_trained_on_v(tiny_sd2: Path, config: Config, pictures: Pictures) -> None:
    settings = config(pictures(count=3), base=str(tiny_sd2), epochs=1, batch_size=1)
    result = train(settings, progress=False)
    adapter = read(result.epochs[0])
    assert result.steps == 3 and len(adapter) == 192 + 12 and adapter.family == "sd2"
    facts = adapter.metadata
    assert (facts["ss_v2"], facts["ss_base_model_version"], facts["modelspec.prediction_type"]) == (
        "True",
        "sd_v2_v",
        "v",
    )
    assert facts["modelspec.architecture"] == "stable-diffusion-v2-768-v/lora"
    projection = adapter["unet.down_blocks.0.attentions.0.proj_in"]
    assert len(projection.shape) == 2 and projection.norm() > 0


def test_the_loss_is_the_v_formula(tiny_sd2: Path, config: Config, tmp_path: Path) -> None:
    base, settings = load_base(tiny_sd2, device="cpu"), config(tmp_path, base=str(tiny_sd2), clip_skip=2)
    schedule = objective.noise_schedule(base.scheduler_config)
    network, captioner = Network(base, 4, 2, 0), CaptionEncoder(base, settings, 10)
    assert all(isinstance(layer, LoraLinear) for layer in network.layers.values())
    draws = Draws(torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8), torch.tensor([10, 700]))
    mean, deviation, captions = torch.rand(2, 4, 8, 8), torch.rand(2, 4, 8, 8), ["1girl", "hat, smile"]
    with network.attached():
        step = DenoisingStep(base, network, schedule, settings, pick_precision(settings, torch.device("cpu")))
        losses = step.losses(Inputs(mean, deviation, tokens=captioner.tokenized(captions).tokens), draws)
        ids = base.tokenizer(captions, padding="max_length", max_length=77, return_tensors="pt").input_ids
        encoder = base.text_encoder
        states = encoder(ids, output_hidden_states=True).hidden_states[-2]
        hidden = getattr(encoder, "text_model", encoder).final_layer_norm(states)
        latents = (mean + deviation * draws.posterior) * 0.5
        abar = schedule.abar[draws.timesteps].view(-1, 1, 1, 1)
        noisy = abar.sqrt() * latents + (1 - abar).sqrt() * draws.noise
        predicted = base.unet(noisy, draws.timesteps, encoder_hidden_states=hidden).sample
    velocity = abar.sqrt() * draws.noise - (1 - abar).sqrt() * latents
    torch.testing.assert_close(losses, (predicted - velocity).square().mean((1, 2, 3)), rtol=1e-5, atol=1e-6)


def test_masks_reach_the_loss(config: Config, pictures: Pictures) -> None:
    """What is wholly masked is not learnt: a transparent picture has a loss of 0."""
    from PIL import Image

    images = pictures(count=1)
    with Image.open(images / "00.png") as image:
        clear = image.convert("RGBA")
    clear.putalpha(0)
    clear.save(images / "00.png")
    losses = [
        train(config(images, name=f"m{mask}", epochs=1, alpha_mask=mask), progress=False).losses[0]
        for mask in (True, False)
    ]
    assert losses[0] == 0 < losses[1]
