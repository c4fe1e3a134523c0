"""Random bases of SD1.5's and SDXL's real sizes, and drawn pictures to train on: speed does not ask what was learnt."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import torch

from loratools.pocket.architecture import Widths
from loratools.pocket.assemble import build_parts, save_folder
from loratools.pocket.tokenizer import train_tokenizer

WORDS = ["1girl, red hair, smile", "blue eyes, cowboy shot", "full body, face focus", "ink style, waving, hat"] * 20
TINY = Widths(
    unet=(16, 16, 32, 32),
    unet_groups=8,
    heads=2,
    vae=(8, 8, 16, 16),
    vae_groups=4,
    text=16,
    text_layers=2,
    resolution=64,
)


def tiny(folder: Path) -> Path:
    """A base for rehearsing the benchmark on a CPU."""
    train_tokenizer(WORDS, folder / "tokenizer", vocabulary=600)
    vocabulary = 1 + max(json.loads((folder / "tokenizer/vocab.json").read_text()).values())
    torch.manual_seed(0)
    save_folder(folder, *build_parts(TINY, vocabulary, scaling_factor=0.5), torch.float32)
    return folder


def sd15(folder: Path) -> Path:
    """SD1.5's UNet, VAE and CLIP-L, random, in fp16 (2 GB)."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel

    with _where():
        unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
        vae = AutoencoderKL(**_VAE, sample_size=512, scaling_factor=0.18215)
        text = CLIPTextModel(_clip(768, 12, 12, "quick_gelu"))
    _calm(unet)
    train_tokenizer(WORDS, folder / "tokenizer", vocabulary=600)
    save_folder(folder, unet, vae, text, torch.float16)
    return folder


def sdxl(folder: Path) -> Path:
    """SDXL's UNet, VAE and two text encoders, random, in fp16 (7 GB)."""
    widths = ((768, 12, 12, "quick_gelu"), (1280, 32, 20, "gelu"))
    return _sdxl(folder, {**_SDXL_UNET, **_SDXL_WIDTHS}, {**_VAE, "sample_size": 1024}, widths, torch.float16)


def tiny_sdxl(folder: Path) -> Path:
    """The same parts, very narrow, for rehearsing on a CPU."""
    unet = {
        "sample_size": 8,
        "block_out_channels": (16, 32, 32),
        "cross_attention_dim": 40,
        "norm_num_groups": 8,
        "attention_head_dim": (2, 2, 2),
        "transformer_layers_per_block": (1, 1, 2),
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 72,
    }
    vae = {**_VAE, "block_out_channels": (8, 8, 16, 16), "norm_num_groups": 4, "sample_size": 64}
    widths = ((16, 2, 2, "quick_gelu"), (24, 2, 2, "gelu"))
    return _sdxl(folder, {**_SDXL_UNET, **unet}, vae, widths, torch.float32)


def _sdxl(folder: Path, unet_like: dict[str, Any], vae_like: dict[str, Any], widths: Any, dtype: torch.dtype) -> Path:
    from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    with _where():
        unet = UNet2DConditionModel(**unet_like)
        vae = AutoencoderKL(**vae_like, scaling_factor=0.13025)
        first, second = CLIPTextModel(_clip(*widths[0])), CLIPTextModelWithProjection(_clip(*widths[1]))
    _calm(unet)
    train_tokenizer(WORDS, folder / "words", vocabulary=600)
    tokenizers = [CLIPTokenizer.from_pretrained(folder / "words") for _ in range(2)]
    scheduler = EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    parts = (part.to(dtype) for part in (vae, first, second))
    StableDiffusionXLPipeline(*parts, *tokenizers, unet.to(dtype), scheduler).save_pretrained(folder)
    return folder


def pictures(folder: Path, size: int, count: int) -> Path:
    """``count`` pictures of coloured squares with tags beside them."""
    from PIL import Image, ImageDraw

    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        rng = random.Random(number)
        image = Image.new("RGB", (size, size), _colour(rng))
        draw = ImageDraw.Draw(image)
        for _ in range(20):
            left, top = rng.randrange(size), rng.randrange(size)
            draw.rectangle((left, top, left + size // 5, top + size // 5), fill=_colour(rng))
        image.save(folder / f"{number:02d}.png")
        (folder / f"{number:02d}.txt").write_text(f"1girl, red hair, smile, blue eyes, hat, {number}\n")
    return folder


_VAE: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 4,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
}
_SDXL_UNET: dict[str, Any] = {
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
}
_SDXL_WIDTHS: dict[str, Any] = {
    "sample_size": 128,
    "block_out_channels": (320, 640, 1280),
    "cross_attention_dim": 2048,
    "attention_head_dim": (5, 10, 20),
    "transformer_layers_per_block": (1, 2, 10),
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}


def _clip(width: int, layers: int, heads: int, act: str) -> Any:
    from transformers import CLIPTextConfig

    return CLIPTextConfig(
        vocab_size=49408,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        max_position_embeddings=77,
        hidden_act=act,
        projection_dim=width,
        bos_token_id=49406,
        eos_token_id=49407,
        pad_token_id=1,
    )


def _calm(unet: Any) -> None:
    """Random weights let activations grow from block to block; smaller ones keep bf16 and fp16 finite."""
    with torch.no_grad():
        for name, weight in unet.named_parameters():
            if weight.ndim > 1 and "norm" not in name:
                weight.mul_(0.7)


def _where() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _colour(rng: random.Random) -> tuple[int, int, int]:
    return rng.randrange(256), rng.randrange(256), rng.randrange(256)
