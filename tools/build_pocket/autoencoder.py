"""Stage ``vae``: the 8x, 4-channel autoencoder, with more weight on hands and faces."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from loratools.pocket.architecture import vae_config
from tools.build_pocket.graph import Trainer
from tools.build_pocket.settings import Settings

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


def train(settings: Settings, folder: Path, device: str, seconds: float, compiled: bool) -> None:
    """Train on the base and codec sets and write ``vae.pt`` (state and scaling factor) and ``latents.npz``."""
    from diffusers import AutoencoderKL

    torch.manual_seed(settings.seed)
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    sets = [np.load(folder / f"{name}.npz") for name in ("base", "codec")]
    images = torch.from_numpy(np.concatenate([s["images"] for s in sets])).to(device)
    boxes = torch.from_numpy(np.concatenate([s["boxes"] for s in sets])).to(device)
    model = AutoencoderKL(**vae_config(settings.widths)).to(device, dtype, memory_format=_layout(compiled))
    forward = torch.compile(_reconstruct, dynamic=False) if compiled else _reconstruct
    batch = settings.autoencoder.batch

    def loss_of() -> Tensor:
        rows = torch.randint(len(images), (batch,), device=device)
        pictures = (images[rows].permute(0, 3, 1, 2).to(dtype) / 127.5 - 1)
        pictures = pictures.contiguous(memory_format=_layout(compiled))
        noise = torch.randn(batch, 4, 16, 16, device=device, dtype=dtype)
        return forward(model, pictures, noise, region_weights(boxes[rows].float(), pictures.shape[-1], 2))

    trainer = Trainer([model], loss_of, settings.autoencoder, device)
    trainer.run("vae", seconds, folder / "log.jsonl")
    trainer.use_averages()
    encode_all(model.float(), images, settings, folder, device)


def _reconstruct(model: torch.nn.Module, pictures: Tensor, noise: Tensor, weights: Tensor) -> Tensor:
    moments = model.quant_conv(model.encoder(pictures))
    mean, logvar = moments.chunk(2, dim=1)
    logvar = logvar.clamp(-20, 10)
    made = model.decoder(model.post_quant_conv(mean + noise * (0.5 * logvar).exp()))
    error = (made - pictures).float()
    across, down = error.diff(dim=3).abs(), error.diff(dim=2).abs()
    edges = (across * weights[..., 1:]).mean() + (down * weights[:, :, 1:]).mean()
    divergence = 0.5 * (mean.float().square() + logvar.float().exp() - 1 - logvar.float()).mean()
    return (error.abs() * weights).mean() + edges + KL * divergence


@torch.no_grad()
def encode_all(model: torch.nn.Module, images: Tensor, settings: Settings, folder: Path, device: str) -> None:
    """Write the posterior means of the base set, the scaling factor 1 / std, and the held-in PSNR."""
    count = settings.base_pictures
    half = model.half() if device == "cuda" else model
    dtype = next(half.parameters()).dtype
    latents, errors = [], []
    for start in range(0, count, 256):
        pictures = images[start : min(count, start + 256)].permute(0, 3, 1, 2).to(dtype) / 127.5 - 1
        mean = half.quant_conv(half.encoder(pictures)).chunk(2, dim=1)[0]
        if start < 4096:
            errors.append(((half.decoder(half.post_quant_conv(mean)) - pictures).float() / 2).square().mean().item())
        latents.append(mean.float())
    every = torch.cat(latents)
    scale = 1 / every.std().item()
    print(f'{{"stage": "vae", "psnr": {-10 * np.log10(np.mean(errors)):.2f}, "scale": {scale:.4f}}}', flush=True)
    torch.save({"state": model.state_dict(), "scale": scale}, folder / "vae.part")
    np.savez(folder / "latents.part.npz", latents=(every * scale).half().cpu().numpy())
    (folder / "latents.part.npz").replace(folder / "latents.npz")
    (folder / "vae.part").replace(folder / "vae.pt")


def load(settings: Settings, folder: Path, device: str) -> tuple[torch.nn.Module, float]:
    """The trained autoencoder in float32, and its scaling factor."""
    from diffusers import AutoencoderKL

    saved = torch.load(folder / "vae.pt", map_location=device, weights_only=True)
    model = AutoencoderKL(**vae_config(settings.widths, saved["scale"])).to(device)
    model.load_state_dict({name: value.float() for name, value in saved["state"].items()})
    return model.eval(), saved["scale"]


def _layout(compiled: bool) -> torch.memory_format:
    return torch.channels_last if compiled else torch.contiguous_format
