"""Qwen-Image 2.1: width W. ComfyUI keeps both halves of the gated feed-forward layer in one matrix."""

from __future__ import annotations

from loratools.adapter.architectures.block_transformer import BlockTransformer, Container, InDiffusers, Weight, same
from loratools.adapter.architectures.family import Family

_BLOCK = (
    *(same(f"attn.{part}", "W W") for part in ("to_q", "to_k", "to_v", "to_out.0")),
    same("img_mlp.gate_layer", "3W W"),
    same("img_mlp.proj", "3W W"),
    same("img_mlp.out", "W 3W"),
    *(same(f"attn.norm_{part}", "H", trained=False) for part in "qk"),
    Weight("img_mlp.gate_up", "img_mlp.gate_layer img_mlp.proj", "6W W", stored=False),
)

FAMILY = Family(
    "qwen-image-2.1",
    "Qwen-Image 2.1",
    "qwen_image_2.1",
    "Qwen-Image-2.1/lora",
    BlockTransformer(
        containers=(Container("transformer_blocks", "transformer_blocks", 32, _BLOCK, block="blocks"),),
        outer=(
            same("time_text_embed.timestep_embedder.linear_1", "W 256", trained=False),
            same("time_text_embed.timestep_embedder.linear_2", "W W", trained=False),
            same("txt_in.text_norm", "4096", trained=False),
            same("txt_in.in_layer", "W 4096", trained=False),
            same("txt_in.out_layer", "W W", trained=False),
            same("img_in", "W 64", trained=False),
            same("modulation.1", "4W W", trained=False),
            same("norm_out.linear", "W W", trained=False),
            same("proj_out", "64 W", trained=False),
        ),
        sizes=({"W": 4096, "H": 128},),
        diffusers=InDiffusers("QwenImage21Transformer2DModel", loader="QwenImageLoraLoaderMixin"),
    ),
    words=("qwenimage21",),
)
