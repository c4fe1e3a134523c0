"""PixArt-alpha and PixArt-Sigma: width W."""

from __future__ import annotations

from loratools.adapter.architectures.block_transformer import BlockTransformer, Container, InDiffusers, Weight, outer
from loratools.adapter.architectures.family import Family, TextEncoder

_BLOCK = (
    Weight("attn.qkv", "attn1.to_q attn1.to_k attn1.to_v", "3W W"),
    Weight("attn.proj", "attn1.to_out.0", "W W"),
    Weight("cross_attn.q_linear", "attn2.to_q", "W W"),
    Weight("cross_attn.kv_linear", "attn2.to_k attn2.to_v", "2W W"),
    Weight("cross_attn.proj", "attn2.to_out.0", "W W"),
    Weight("mlp.fc1", "ff.net.0.proj", "4W W"),
    Weight("mlp.fc2", "ff.net.2", "W 4W"),
)

FAMILY = Family(
    "pixart",
    "PixArt",
    "pixart",
    "pixart/lora",
    BlockTransformer(
        containers=(Container("blocks", "transformer_blocks", 28, _BLOCK, block="blocks"),),
        outer=(
            outer("x_embedder.proj", "pos_embed.proj", "W 4 2 2"),
            outer("t_embedder.mlp.0", "adaln_single.emb.timestep_embedder.linear_1", "W 256"),
            outer("t_embedder.mlp.2", "adaln_single.emb.timestep_embedder.linear_2", "W W"),
            outer("csize_embedder.mlp.0", "adaln_single.emb.resolution_embedder.linear_1", "384 256"),
            outer("csize_embedder.mlp.2", "adaln_single.emb.resolution_embedder.linear_2", "384 384"),
            outer("ar_embedder.mlp.0", "adaln_single.emb.aspect_ratio_embedder.linear_1", "384 256"),
            outer("ar_embedder.mlp.2", "adaln_single.emb.aspect_ratio_embedder.linear_2", "384 384"),
            outer("t_block.1", "adaln_single.linear", "6W W"),
            outer("y_embedder.y_proj.fc1", "caption_projection.linear_1", "W 4096"),
            outer("y_embedder.y_proj.fc2", "caption_projection.linear_2", "W W"),
            outer("final_layer.linear", "proj_out", "32 W"),
        ),
        sizes=({"W": 1152},),
        diffusers=InDiffusers("PixArtTransformer2DModel", {"caption_channels": 4096}),
    ),
    text=(TextEncoder("text_encoder", "lora_te", 24, "t5xxl", "t5"),),
    words=("pixart",),
)
