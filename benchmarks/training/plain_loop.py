"""The training loop that one would write with diffusers and PEFT, as the measure of ours on a CPU."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

UNET_TARGETS = ["to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out"]
TEXT_TARGETS = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"]


def seconds_per_step(base: Path, pictures: Path, batch: int, rank: int, steps: int) -> float:
    """Median seconds of the second half of ``steps`` steps over ``base``, a Diffusers folder; latents are encoded once.

    Branches on the modules that ours trains, UNet and text encoder, AdamW, float32, as the pictures come.
    """
    from diffusers import DDPMScheduler, StableDiffusionPipeline
    from peft import LoraConfig

    pipe = StableDiffusionPipeline.from_pretrained(base, torch_dtype=torch.float32, local_files_only=True)
    for part in (pipe.unet, pipe.vae, pipe.text_encoder):
        part.requires_grad_(False)
    pipe.unet.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=UNET_TARGETS))
    pipe.text_encoder.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=TEXT_TARGETS))
    factors = [p for part in (pipe.unet, pipe.text_encoder) for p in part.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(factors, lr=1e-4, fused=True)
    noises = DDPMScheduler.from_config(pipe.scheduler.config)
    latents, tokens = _encoded(pipe, pictures)
    seconds = []
    for step in range(steps):
        begun = time.perf_counter()
        rows = [(step * batch + row) % len(latents) for row in range(batch)]
        noise, times = torch.randn_like(latents[rows]), torch.randint(0, 1000, (batch,))
        hidden = pipe.text_encoder(tokens[rows])[0]
        noisy: Any = noises.add_noise(latents[rows], noise, times)
        loss = torch.nn.functional.mse_loss(pipe.unet(noisy, times, encoder_hidden_states=hidden).sample, noise)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(factors, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        loss.item()
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds[steps // 2 :])


@torch.no_grad()
def _encoded(pipe: Any, pictures: Path) -> tuple[torch.Tensor, torch.Tensor]:
    paths = sorted(pictures.glob("*.png"))
    pixels = np.stack([np.asarray(Image.open(path).convert("RGB"), dtype=np.float32) / 127.5 - 1 for path in paths])
    latents = pipe.vae.encode(torch.from_numpy(pixels).permute(0, 3, 1, 2)).latent_dist.sample()
    captions = [path.with_suffix(".txt").read_text() for path in paths]
    tokens = pipe.tokenizer(captions, padding="max_length", max_length=77, truncation=True, return_tensors="pt")
    return latents * pipe.vae.config.scaling_factor, tokens.input_ids
