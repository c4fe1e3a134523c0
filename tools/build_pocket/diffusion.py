"""Stage ``unet``: the text encoder and the UNet, trained together on latents, epsilon prediction, SD's betas."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from loratools.pocket.architecture import scheduler_config
from loratools.pocket.assemble import build_parts
from tools.build_pocket import autoencoder
from tools.build_pocket.data import caption_tokens, contact_sheet, house_figures
from tools.build_pocket.settings import Settings
from tools.build_pocket.trainer import Trainer


def train(settings: Settings, folder: Path, device: str, seconds: float) -> None:
    """Train on the base set and write ``unet.pt`` and ``text.pt`` (averaged weights, half precision)."""
    torch.manual_seed(settings.seed + 1)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    drawn = np.load(folder / "base.npz")
    tokens = torch.from_numpy(caption_tokens(drawn["tags"], settings, folder / "tokenizer")).to(device)
    latents = torch.from_numpy(np.load(folder / "latents.npz")["latents"]).to(device)
    weights = autoencoder.region_weights(torch.from_numpy(drawn["boxes"]).to(device).float() / 8, 16, 0.5)
    weights = weights.clamp(max=3.0)
    vocabulary = int(tokens.max()) + 1
    unet, _, text = build_parts(settings.widths, vocabulary)
    unet, text = unet.to(device, dtype), text.to(device, dtype)
    signal = _signal_levels().to(device)
    batch = settings.diffusion.batch

    def loss_of() -> Tensor:
        rows = torch.randint(len(latents), (batch,), device=device)
        which = torch.randint(settings.captions, (batch,), device=device)
        times = torch.randint(1000, (batch,), device=device)
        clean, noise = latents[rows].float(), torch.randn(batch, 4, 16, 16, device=device)
        level = signal[times].view(-1, 1, 1, 1)
        noisy = level.sqrt() * clean + (1 - level).sqrt() * noise
        context = text(input_ids=tokens[rows, which].long()).last_hidden_state
        guess = unet(noisy.to(dtype), times, context, return_dict=False)[0]
        loss: Tensor = ((guess.float() - noise).square() * weights[rows]).mean()
        return loss

    trainer = Trainer([unet, text], loss_of, settings.diffusion, device)
    trainer.run("unet", seconds, folder / "log.jsonl")
    trainer.use_averages()
    names = [f"unet.{n}" for n, _ in unet.named_parameters()] + [f"text.{n}" for n, _ in text.named_parameters()]
    state = dict(zip(names, (average.cpu().half() for average in trainer.averages), strict=True))
    torch.save({"state": state, "vocabulary": vocabulary}, folder / "diffusion.part")
    (folder / "diffusion.part").replace(folder / "diffusion.pt")


def load(settings: Settings, folder: Path, device: str) -> tuple[torch.nn.Module, torch.nn.Module]:
    """The trained ``(unet, text_encoder)`` in float32."""
    saved = torch.load(folder / "diffusion.pt", map_location=device, weights_only=True)
    unet, _, text = build_parts(settings.widths, saved["vocabulary"])
    for model, prefix in ((unet, "unet."), (text, "text.")):
        own = {name.removeprefix(prefix): value for name, value in saved["state"].items() if name.startswith(prefix)}
        missing, unexpected = model.load_state_dict({n: v.float() for n, v in own.items()}, strict=False)
        if unexpected or any("position_ids" not in name for name in missing):
            raise SystemExit(f"diffusion.pt does not fit the model: {missing[:3]} {unexpected[:3]}")
    return unet.to(device).eval(), text.to(device).eval()


@torch.no_grad()
def sample(
    settings: Settings,
    folder: Path,
    device: str,
    captions: list[str],
    seed: int,
    guidance: float = 5.0,
    steps: int = 20,
) -> list[np.ndarray]:
    """Pictures (uint8, h, w, 3) for captions: DPM++ 2M with classifier-free guidance, one batch."""
    from diffusers import DPMSolverMultistepScheduler
    from transformers import CLIPTokenizer

    unet, text = load(settings, folder, device)
    vae, scale = autoencoder.load(settings, folder, device)
    reader = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    ids = reader([""] * len(captions) + captions, padding="max_length", max_length=77, truncation=True)["input_ids"]
    context = text(input_ids=torch.tensor(ids, device=device)).last_hidden_state
    scheduler = DPMSolverMultistepScheduler(**{k: v for k, v in scheduler_config().items() if k not in _DDIM_ONLY})
    scheduler.set_timesteps(steps, device=device)
    latents = torch.randn(len(captions), 4, 16, 16, generator=torch.Generator().manual_seed(seed)).to(device)
    for time in scheduler.timesteps:
        without, given = unet(torch.cat([latents] * 2), time, context).sample.chunk(2)
        latents = scheduler.step(without + guidance * (given - without), time, latents).prev_sample
    pictures = vae.decode(latents / scale).sample.permute(0, 2, 3, 1).clamp(-1, 1)
    return list(((pictures + 1) * 127.5).round().to(torch.uint8).cpu().numpy())


def sample_sheet(settings: Settings, folder: Path, device: str, count: int = 128) -> None:
    """Write ``samples.png``: one picture for each of ``count`` random house-style captions, not selected."""
    captions = [", ".join(figure.tags()) for figure in house_figures(count, settings.seed + 99)]
    contact_sheet(sample(settings, folder, device, captions, seed=1)).save(folder / "samples.png")


_DDIM_ONLY = ("clip_sample", "set_alpha_to_one")


def _signal_levels() -> Tensor:
    facts = scheduler_config()
    betas = torch.linspace(facts["beta_start"] ** 0.5, facts["beta_end"] ** 0.5, 1000, dtype=torch.float64) ** 2
    return torch.cumprod(1 - betas, 0).float()
