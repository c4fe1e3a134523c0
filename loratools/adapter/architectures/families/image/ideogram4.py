"""Ideogram 4: width W, feed-forward F."""

from __future__ import annotations

from loratools.adapter.architectures.block_transformer import (
    BlockTransformer,
    Container,
    InDiffusers,
    Weight,
    outer,
    same,
)
from loratools.adapter.architectures.family import Family

_BLOCK = (
    Weight("attention.qkv", "attention.to_q attention.to_k attention.to_v", "3W W"),
    Weight("attention.o", "attention.to_out.0", "W W"),
    *(same(f"feed_forward.w{number}", "W F" if number == 2 else "F W") for number in (1, 2, 3)),
    same("adaln_modulation", "4W 512"),
    outer("attention.norm_q", "attention.norm_q", "H"),
    outer("attention.norm_k", "attention.norm_k", "H"),
    *(same(f"{place}_norm{number}", "W", trained=False) for place in ("attention", "ffn") for number in (1, 2)),
)

FAMILY = Family(
    "ideogram-4",
    "Ideogram 4",
    "ideogram4",
    "Ideogram-4/lora",
    BlockTransformer(
        containers=(Container("layers", "layers", 34, _BLOCK),),
        outer=(
            same("input_proj", "W 128", trained=False),
            same("llm_cond_norm", "53248", trained=False),
            same("llm_cond_proj", "W 53248", trained=False),
            same("t_embedding.mlp_in", "W W", trained=False),
            same("t_embedding.mlp_out", "W W", trained=False),
            same("adaln_proj", "512 W", trained=False),
            same("embed_image_indicator", "2 W", trained=False),
            same("final_layer.linear", "128 W", trained=False),
            same("final_layer.adaln_modulation", "W 512", trained=False),
        ),
        sizes=({"W": 4608, "F": 12288, "H": 256},),
        diffusers=InDiffusers("Ideogram4Transformer2DModel", loader="Ideogram4LoraLoaderMixin"),
        more_components=("conditional_transformer",),
    ),
    words=("ideogram4",),
)
