"""A random SDXL of the full size, and stacks of random LoRAs on any base."""

from __future__ import annotations

from pathlib import Path

import torch

from benchmarks.parity.models import CLIP_G, CLIP_L, SDXL_UNET
from benchmarks.previews.bench import TINY, Bench, Scale, random_lora
from loratools.adapter.files.file import read
from loratools.base.model import FAMILY_DEFAULTS, Base
from loratools.base.quiet import quiet
from loratools.base.text_model import load_tokenizer
from loratools.pocket import weights_folder
from loratools.pocket.architecture import scheduler_config, vae_config
from loratools.preview.plan.jobs import Stack, content_keys_of
from loratools.preview.request.rows import GridRow


def xl_base(bench: Bench) -> Base:
    """The random SDXL that the parts of a run share."""
    if bench.xl is None:
        bench.xl = random_xl_base(bench.scale, bench.device, bench.dtype)
    return bench.xl


def random_xl_base(scale: Scale, device: torch.device, dtype: torch.dtype) -> Base:
    """A random model of SDXL's tree, made on the device; its tokenizers are the pocket's, its VAE is in float32."""
    with quiet():
        from diffusers import AutoencoderKL, UNet2DConditionModel
        from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    tiny = scale is TINY
    shrunk = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    texts = [{**own, **(shrunk if tiny else {})} for own in (CLIP_L, CLIP_G)]
    unet = dict(SDXL_UNET)
    if tiny:
        texts[1]["projection_dim"] = 16
        unet |= {"block_out_channels": (32, 64, 64), "attention_head_dim": (2, 4, 4), "cross_attention_dim": 32,
                 "sample_size": 8, "transformer_layers_per_block": (1, 1, 2), "addition_time_embed_dim": 8,
                 "projection_class_embeddings_input_dim": 6 * 8 + 16}  # fmt: skip
    tokenizer = load_tokenizer(weights_folder() / "tokenizer")
    torch.manual_seed(0)
    with quiet(), torch.device(device):
        parts = [
            UNet2DConditionModel(**unet).to(dtype),
            AutoencoderKL(**{**vae_config(scale.widths, 0.13025), "force_upcast": True}),
            CLIPTextModel(CLIPTextConfig(**texts[0])).to(dtype),
            CLIPTextModelWithProjection(CLIPTextConfig(**texts[1])).to(dtype),
        ]
    for part in parts:
        part.to(device).eval().requires_grad_(False)
    side = 8 * int(unet["sample_size"])  # type: ignore[call-overload]
    return Base(
        unet=parts[0], vae=parts[1], text_encoders=tuple(parts[2:]), tokenizers=(tokenizer, tokenizer),
        scheduler_config=scheduler_config(), family="sdxl", digest="1" * 64, name="random-xl",
        resolution=(side, side), device=device, dtype=dtype, defaults=FAMILY_DEFAULTS["sdxl"],
    )  # fmt: skip


def stacks_on(base: Base, work: Path, rank: int, count: int) -> list[Stack]:
    """``count`` stacks of one picture each, of two random LoRAs at several weights: neighbours in a grid."""
    rows = []
    for n in (1, 2):
        path = work / f"{base.name}-{n}.safetensors"
        rows.append(GridRow.of_file(read(path if path.is_file() else random_lora(base, path, rank, n))))
    half = -(-count // 2)
    return [
        Stack(row.deltas, (n + 1) / half, f"{row.label} {n}", content_keys_of(row.deltas))
        for row in rows
        for n in range(half)
    ][:count]
