"""Stage ``vae``: the 8x, 4-channel autoencoder, with more weight on hands and faces."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from loratools.pocket.architecture import vae_config
from tools.build_pocket.settings import Settings
from tools.build_pocket.trainer import Trainer

FACE, HAND = 2.0, 6.0  # weights of a pixel there; 1 elsewhere
KL = 1e-4


def region_weights(boxes: Tensor, side: int, margin: float) -> Tensor:
    """(n, 3, 4) boxes in pixels of a ``side`` x ``side`` picture -> (n, 1, side, side) weights."""
    grid = torch.arange(side, device=boxes.device) + 0.5
    low, high = boxes[..., :2] - margin, boxes[..., 2:] + margin
    real = (boxes[..., 2:] > boxes[..., :2]).all(-1)  # an absent box is all zeros
    inside = (grid > low[..., None]) & (grid < high[..., None])  # (n, 3, 2, side)
    areas = inside[:, :, 1, :, None] & inside[:, :, 0, None, :] & real[..., None, None]
    weight = 1 + (FACE - 1) * areas[:, 0].float()
    return torch.where(areas[:, 1] | areas[:, 2], HAND, weight)[:, None]


def train(settings: Settings, folder: Path, device: str, seconds: float) -> None:
    """Train on the codec set, two thirds of the time on crops and the rest on whole pictures; write ``vae.pt``."""
    from diffusers import AutoencoderKL

    torch.manual_seed(settings.seed)
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    drawn = np.load(folder / "codec.npz")
    images, boxes = (torch.from_numpy(drawn[name]).to(device) for name in ("images", "boxes"))
    model = AutoencoderKL(**vae_config(settings.widths)).to(device, dtype)

    def loss_at(side: int, batch: int) -> Tensor:
        rows = torch.randint(len(images), (batch,), device=device)
        origin = _origins(boxes[rows], side, images.shape[1])
        pictures = _cropped(images, rows, origin, side).permute(0, 3, 1, 2).to(dtype) / 127.5 - 1
        noise = torch.randn(batch, 4, side // 8, side // 8, device=device, dtype=dtype)
        moved = boxes[rows].float() - torch.cat([origin, origin], dim=1)[:, None]
        return _reconstruct(model, pictures, noise, region_weights(moved, side, 2))

    for name, side, training, share in (
        ("vae-crops", 64, settings.crops, 0.67),
        ("vae", 128, settings.autoencoder, 0.33),
    ):
        trainer = Trainer([model], partial(loss_at, side, training.batch), training, device)
        trainer.run(name, seconds * share, folder / "log.jsonl")
        trainer.use_averages()
    torch.save({"state": model.half().cpu().state_dict()}, folder / "vae.part")
    (folder / "vae.part").replace(folder / "vae.pt")


def _origins(boxes: Tensor, side: int, whole: int) -> Tensor:
    """Left and top (n, 2) of a crop: mostly around the face or a hand, if that is there, else anywhere."""
    count, device = len(boxes), boxes.device
    chosen = boxes[torch.arange(count, device=device), torch.randint(boxes.shape[1], (count,), device=device)].float()
    around = (chosen[:, :2] + chosen[:, 2:]) / 2 - side / 2 + torch.randn(count, 2, device=device) * side / 6
    anywhere = torch.rand(count, 2, device=device) * (whole - side)
    use = (chosen[:, 2] > chosen[:, 0]) & (torch.rand(count, device=device) < 0.75)
    return torch.where(use[:, None], around, anywhere).round().clamp(0, whole - side).long()


def _cropped(images: Tensor, rows: Tensor, origin: Tensor, side: int) -> Tensor:
    """(n, side, side, 3) crops of the chosen rows."""
    steps = torch.arange(side, device=images.device)
    x, y = origin[:, 0, None] + steps, origin[:, 1, None] + steps
    return images[rows[:, None, None], y[:, :, None], x[:, None, :]]


def _reconstruct(model: Any, pictures: Tensor, noise: Tensor, weights: Tensor) -> Tensor:
    moments = model.quant_conv(model.encoder(pictures))
    mean, logvar = moments.chunk(2, dim=1)
    logvar = logvar.clamp(-20, 10)
    made = model.decoder(model.post_quant_conv(mean + noise * (0.5 * logvar).exp()))
    error = (made - pictures).float()
    across, down = error.diff(dim=3).abs(), error.diff(dim=2).abs()
    edges = (across * weights[..., 1:]).mean() + (down * weights[:, :, 1:]).mean()
    divergence = 0.5 * (mean.float().square() + logvar.float().exp() - 1 - logvar.float()).mean()
    loss: Tensor = (error.abs() * weights).mean() + edges + KL * divergence
    return loss


@torch.no_grad()
def encode(settings: Settings, folder: Path, device: str) -> None:
    """Write ``latents.npz``: the base set's posterior means, scaled to unit variance, and that scale.

    Prints the PSNR on the first pictures, none of which the autoencoder was trained on.
    """
    model = load_unscaled(settings, folder, device)
    dtype = next(model.parameters()).dtype
    images = torch.from_numpy(np.load(folder / "base.npz")["images"])
    latents, errors = [], []
    for start in range(0, len(images), 256):
        pictures = images[start : start + 256].to(device).permute(0, 3, 1, 2).to(dtype) / 127.5 - 1
        mean = model.encode(pictures).latent_dist.mean
        if start < 4096:
            errors.append(((model.decode(mean).sample - pictures).float() / 2).square().mean().item())
        latents.append(mean.float().cpu())
    every = torch.cat(latents)
    scale = 1 / every.std().item()
    print(f'{{"stage": "encode", "psnr": {-10 * np.log10(np.mean(errors)):.2f}, "scale": {scale:.4f}}}', flush=True)
    np.savez(folder / "latents.part.npz", latents=(every * scale).half().numpy(), scale=scale)
    (folder / "latents.part.npz").replace(folder / "latents.npz")
    (folder / "scale.json").write_text(f'{{"scale": {scale!r}}}\n', encoding="utf-8")


def load_unscaled(settings: Settings, folder: Path, device: str) -> Any:
    """The trained autoencoder, in half precision on a GPU and float32 elsewhere."""
    from diffusers import AutoencoderKL

    model = AutoencoderKL(**vae_config(settings.widths))
    saved = torch.load(folder / "vae.pt", map_location="cpu", weights_only=True)["state"]
    model.load_state_dict({name: value.float() for name, value in saved.items()})
    return model.to(device, torch.float16 if device == "cuda" else torch.float32).eval()


def load(settings: Settings, folder: Path, device: str) -> tuple[Any, float]:
    """The trained autoencoder in float32 with its scaling factor in its config, and that factor."""
    scale = float(json.loads((folder / "scale.json").read_text(encoding="utf-8"))["scale"])
    model = load_unscaled(settings, folder, device).float()
    model.register_to_config(scaling_factor=scale)
    return model, scale
