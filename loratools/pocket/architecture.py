"""The shapes of the pocket base: exactly SD 1.x's module tree, with small widths.

Every one of SD1's 17 LoRA blocks and 26 LoCon blocks exists and carries SD1.5's key names; only the widths, the depth
of the text encoder and the resolution are small. ``Widths()`` is what ships; tests build smaller ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

RESOLUTION = 128  # pixels; latents are an eighth: 16 x 16
CONTEXT = 77  # CLIP's prompt length in tokens, begin and end included


@dataclass(frozen=True)
class Widths:
    """Channel counts of a pocket model; every one must be a multiple of its group count."""

    unet: tuple[int, int, int, int] = (96, 96, 128, 160)
    unet_groups: int = 32
    heads: int = 4
    vae: tuple[int, int, int, int] = (32, 64, 96, 128)
    vae_groups: int = 16
    text: int = 128
    text_layers: int = 4
    resolution: int = RESOLUTION


def unet_config(widths: Widths) -> dict[str, Any]:
    """Arguments of ``diffusers.UNet2DConditionModel``: SD1's four levels, two layers each, epsilon prediction."""
    return {
        "sample_size": widths.resolution // 8,
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": list(widths.unet),
        "layers_per_block": 2,
        "cross_attention_dim": widths.text,
        "attention_head_dim": widths.heads,
        "norm_num_groups": widths.unet_groups,
        "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
        "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
    }


def vae_config(widths: Widths, scaling_factor: float = 1.0) -> dict[str, Any]:
    """Arguments of ``diffusers.AutoencoderKL``: SD1's 8x, 4-channel autoencoder."""
    return {
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": 4,
        "sample_size": widths.resolution,
        "block_out_channels": list(widths.vae),
        "layers_per_block": 2,
        "norm_num_groups": widths.vae_groups,
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
        "scaling_factor": scaling_factor,
    }


def text_config(widths: Widths, vocabulary: int, bos: int, eos: int) -> dict[str, Any]:
    """Arguments of ``transformers.CLIPTextConfig``; CLIP-L's activation, so that clip skip and LoRA act as in SD1."""
    return {
        "vocab_size": vocabulary,
        "hidden_size": widths.text,
        "intermediate_size": 4 * widths.text,
        "projection_dim": widths.text,
        "num_hidden_layers": widths.text_layers,
        "num_attention_heads": 4,
        "max_position_embeddings": CONTEXT,
        "hidden_act": "quick_gelu",
        "bos_token_id": bos,
        "eos_token_id": eos,
        "pad_token_id": eos,
    }


def scheduler_config() -> dict[str, Any]:
    """SD1's own noise schedule, as ``diffusers`` writes it in a checkpoint's ``scheduler`` folder."""
    return {
        "num_train_timesteps": 1000,
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "prediction_type": "epsilon",
        "clip_sample": False,
        "set_alpha_to_one": False,
        "steps_offset": 1,
        "timestep_spacing": "leading",
    }
