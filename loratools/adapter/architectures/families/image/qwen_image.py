"""Qwen-Image, Edit and Layered: one naming in both networks."""

from __future__ import annotations

from loratools.adapter.architectures.block_transformer import BlockTransformer, Container, InDiffusers, same
from loratools.adapter.architectures.family import Family, TextEncoder

_BLOCK = (
    *(same(f"attn.{part}", "W W") for part in ("to_q", "to_k", "to_v", "to_out.0")),
    *(same(f"attn.{part}", "W W") for part in ("add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")),
    *(same(f"attn.{part}", "H", trained=False) for part in ("norm_q", "norm_k", "norm_added_q", "norm_added_k")),
    *(same(f"{stream}_mlp.net.0.proj", "4W W") for stream in ("img", "txt")),
    *(same(f"{stream}_mlp.net.2", "W 4W") for stream in ("img", "txt")),
    *(same(f"{stream}_mod.1", "6W W") for stream in ("img", "txt")),
)

FAMILY = Family(
    "qwen-image",
    "Qwen-Image",
    "qwen_image",
    "Qwen-Image/lora",
    BlockTransformer(
        containers=(Container("transformer_blocks", "transformer_blocks", 60, _BLOCK, block="blocks"),),
        outer=(
            same("img_in", "W 64", trained=False),
            same("txt_in", "W 3584", trained=False),
            same("txt_norm", "3584", trained=False),
            same("time_text_embed.timestep_embedder.linear_1", "W 256", trained=False),
            same("time_text_embed.timestep_embedder.linear_2", "W W", trained=False),
            same("time_text_embed.addition_t_embedding", "2 W", trained=False),  # Layered's
            same("norm_out.linear", "2W W", trained=False),
            same("proj_out", "64 W", trained=False),
        ),
        sizes=({"W": 3072, "H": 128},),
        diffusers=InDiffusers(
            "QwenImageTransformer2DModel", {"use_additional_t_cond": True}, loader="QwenImageLoraLoaderMixin"
        ),
    ),
    text=(TextEncoder("text_encoder", "lora_te", 28, "qwen25_7b", "llama"),),
    words=("qwenimage",),
)
