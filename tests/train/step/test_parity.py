"""A step against one of diffusers and PEFT over the same factors: the loss and the gradient of every factor.

The reference shares no code with ours: a pipeline read from the folder, PEFT's layers with the factors of a file that
we wrote, diffusers' scheduler for noise and target, and the weights of the objective written out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from loratools.adapter.files.save import write
from loratools.base.load import load_base
from loratools.train.config.config import TrainConfig
from loratools.train.network.network import Network
from loratools.train.step import objective
from loratools.train.step.batch import Inputs
from loratools.train.step.objective import Draws
from loratools.train.step.precision import pick_precision
from loratools.train.step.step import DenoisingStep
from loratools.train.step.text_states import CaptionEncoder
from tests.base.tiny_xl import save_tiny_xl

Config = Callable[..., TrainConfig]
CAPTIONS = ["1girl, red hair", "blue eyes, smile, hat"]
SIZES = torch.tensor([[100.0, 80, 3, 5, 64, 64], [64, 64, 0, 0, 64, 64]])
SHAPE = (2, 4, 16, 16)  # four places in the middle block: over one, attention has no gradient
LIMIT = 1e-4  # relative
TIMES = torch.tensor([40, 700])  # the signal-to-noise ratios lie on both sides of 5


@dataclass(frozen=True)
class Case:
    """``settings`` of ours, and for a control those with which it must no longer agree."""

    settings: dict[str, Any]
    control: dict[str, Any]


CASES = {
    "plain": Case({}, {"loss_type": "l1"}),
    "clip skip 2": Case({"clip_skip": 2}, {"clip_skip": 1}),
    "noise offset": Case({"noise_offset": 0.1}, {"noise_offset": 0.05}),
    "min-SNR": Case({"min_snr_gamma": 5.0}, {"min_snr_gamma": None}),
}
OF = [("sd1", name) for name in CASES] + [("sdxl", name) for name in CASES if name != "clip skip 2"]


@dataclass
class Measured:
    """The loss, and the gradient of each factor by module: ``up`` and ``down`` flattened to matrices."""

    loss: float
    gradients: dict[str, tuple[Tensor, Tensor]]

    def apart(self, other: Measured) -> float:
        """The greatest relative difference (Frobenius) of the losses and of any factor's gradient; infinite where
        another set of factors is moved."""
        if set(self.gradients) != set(other.gradients):
            return math.inf
        errors = [abs(self.loss - other.loss) / other.loss]
        for name, pair in self.gradients.items():
            errors += [_relative(a, b) for a, b in zip(pair, other.gradients[name], strict=True)]
        return max(errors)


def _relative(a: Tensor, b: Tensor) -> float:
    size = float(b.norm())
    return float((a - b).norm()) / size if size else float(a.norm())


@pytest.fixture(scope="module")
def bases(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {"sd1": tiny, "sdxl": save_tiny_xl(tmp_path_factory.mktemp("parity") / "xl")}


@pytest.mark.parametrize(("family", "name"), OF)
def test_a_step_is_that_of_diffusers_and_peft(
    family: str, name: str, bases: dict[str, Path], config: Config, tmp_path: Path
) -> None:
    case, folder = CASES[name], bases[family]
    ours, file = _ours(folder, config(tmp_path, base=str(folder), **case.settings), tmp_path)
    theirs = _theirs(folder, file, case.settings)
    assert ours.apart(theirs) <= LIMIT
    changed, _ = _ours(folder, config(tmp_path, base=str(folder), **{**case.settings, **case.control}), tmp_path)
    assert changed.apart(theirs) > 100 * LIMIT


def _draws(settings: TrainConfig) -> Draws:
    generator = torch.Generator().manual_seed(5)
    drawn = objective.draw(SHAPE, 1000, settings, generator)
    return Draws(drawn.noise, drawn.posterior, TIMES, drawn.offset, drawn.strength, drawn.perturbation)


def _moments() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return torch.rand(SHAPE, generator=generator), torch.rand(SHAPE, generator=generator)


def _ours(folder: Path, settings: TrainConfig, place: Path) -> tuple[Measured, Path]:
    """What our step gives, and a file of the factors that it was taken at."""
    base = load_base(folder, device="cpu")
    network = Network(base, 4, 2, 0)
    torch.manual_seed(9)
    for layer in network.layers.values():
        nn.init.normal_(layer.up, std=0.1)
    file = place / "factors.safetensors"
    write(network.deltas(), file, family=base.family, dtype=torch.float32, alpha=network.alphas, force=True)
    schedule = objective.noise_schedule(base.scheduler_config)
    mean, deviation = _moments()
    tokenized = CaptionEncoder(base, settings, 10).tokenized(CAPTIONS)
    sizes = SIZES if base.family == "sdxl" else None
    with network.attached():
        step = DenoisingStep(base, network, schedule, settings, pick_precision(settings, torch.device("cpu")))
        loss = step.losses(Inputs(mean, deviation, tokens=tokenized.tokens, time_ids=sizes), _draws(settings)).mean()
        loss.backward()
    gradients = {
        name: (layer.up.grad.flatten(1), layer.down.grad.flatten(1))
        for name, layer in network.layers.items()
        if layer.up.grad is not None and layer.up.grad.any()
    }
    return Measured(loss.item(), gradients), file


def _theirs(folder: Path, file: Path, settings: dict[str, Any]) -> Measured:
    """The same by diffusers' pipeline and scheduler, PEFT's layers and formulas written out."""
    from diffusers import DDPMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline

    wide = folder.name == "xl"
    pipe = (StableDiffusionXLPipeline if wide else StableDiffusionPipeline).from_pretrained(folder)
    pipe.load_lora_weights(file.parent, weight_name=file.name)
    parts = {"unet": pipe.unet, "text_encoder": pipe.text_encoder}
    parts |= {"text_encoder_2": pipe.text_encoder_2} if wide else {}
    factors = {
        f"{part}.{key}": value
        for part, model in parts.items()
        for key, value in model.named_parameters()
        if "lora_" in key
    }
    for value in factors.values():
        value.requires_grad_(True)
    generator = torch.Generator().manual_seed(5)
    noise = torch.randn(SHAPE, generator=_past_timesteps(generator))
    offset = torch.randn(2, 4, 1, 1, generator=generator) if "noise_offset" in settings else None
    mean, deviation = _moments()
    latents = (mean + deviation * torch.randn(SHAPE, generator=generator)) * pipe.vae.config.scaling_factor
    if offset is not None:
        noise = noise + settings["noise_offset"] * offset
    scheduler = DDPMScheduler.from_config(pipe.scheduler.config)
    hidden, added = _text(pipe, settings.get("clip_skip") or 1, wide)
    noisy = scheduler.add_noise(latents, noise, TIMES)
    predicted = pipe.unet(noisy, TIMES, encoder_hidden_states=hidden, added_cond_kwargs=added).sample
    losses = (predicted - noise).square().mean((1, 2, 3))
    if gamma := settings.get("min_snr_gamma"):
        abar = scheduler.alphas_cumprod[TIMES]
        snr = abar / (1 - abar)
        losses = losses * torch.minimum(snr, torch.full_like(snr, gamma)) / snr
    loss = losses.mean()
    loss.backward()
    return Measured(loss.item(), _paired(factors))


def _past_timesteps(generator: torch.Generator) -> torch.Generator:
    torch.randint(0, 1000, (2,), generator=generator)  # ours are drawn first, and replaced by TIMES
    return generator


def _text(pipe: Any, clip_skip: int, wide: bool) -> tuple[Tensor, dict[str, Tensor] | None]:
    if wide:
        hidden, _, pooled, _ = pipe.encode_prompt(CAPTIONS, device="cpu", do_classifier_free_guidance=False)
        return hidden, {"text_embeds": pooled, "time_ids": SIZES}
    ids = pipe.tokenizer(CAPTIONS, padding="max_length", max_length=77, return_tensors="pt").input_ids
    states = pipe.text_encoder(ids, output_hidden_states=True).hidden_states[-clip_skip]
    normed = getattr(pipe.text_encoder, "text_model", pipe.text_encoder).final_layer_norm(states)
    return normed, None


def _paired(factors: dict[str, nn.Parameter]) -> dict[str, tuple[Tensor, Tensor]]:
    """Gradients by module; those without any are left out."""
    gradients = {}
    for key, up in factors.items():
        module, found_up, _ = key.partition(".lora_B.")
        if not found_up or up.grad is None or not up.grad.any():
            continue
        down = factors[key.replace(".lora_B.", ".lora_A.")]
        assert down.grad is not None
        part, _, path = module.partition(".")
        if part != "unet" and not path.startswith("text_model."):
            path = f"text_model.{path}"
        gradients[f"{part}.{path}"] = (up.grad.flatten(1), down.grad.flatten(1))
    return gradients
