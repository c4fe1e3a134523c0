"""Sana: width W, feed-forward F, whose layers are convolutions. Trainers use Diffusers' names."""

from __future__ import annotations

from loratools.adapter.architectures.block_transformer import BlockTransformer, Container, InDiffusers, Weight, outer
from loratools.adapter.architectures.family import Family

_BLOCK = (
    Weight("attn.qkv", "attn1.to_q attn1.to_k attn1.to_v", "3W W"),
    Weight("attn.proj", "attn1.to_out.0", "W W"),
    Weight("cross_attn.q_linear", "attn2.to_q", "W W"),
    Weight("cross_attn.kv_linear", "attn2.to_k attn2.to_v", "2W W"),
    Weight("cross_attn.proj", "attn2.to_out.0", "W W"),
    Weight("mlp.inverted_conv.conv", "ff.conv_inverted", "2F W 1 1"),
    Weight("mlp.depth_conv.conv", "ff.conv_depth", "2F 1 3 3", trained=False),
    Weight("mlp.point_conv.conv", "ff.conv_point", "W F 1 1"),
)

FAMILY = Family(
    "sana",
    "Sana",
    "sana",
    "sana/lora",
    BlockTransformer(
        containers=(Container("blocks", "transformer_blocks", 60, _BLOCK, block="blocks"),),
        outer=(
            outer("x_embedder.proj", "patch_embed.proj", "W 32 1 1"),
            outer("t_embedder.mlp.0", "time_embed.emb.timestep_embedder.linear_1", "W 256"),
            outer("t_embedder.mlp.2", "time_embed.emb.timestep_embedder.linear_2", "W W"),
            outer("t_block.1", "time_embed.linear", "6W W"),
            outer("y_embedder.y_proj.fc1", "caption_projection.linear_1", "W 2304"),
            outer("y_embedder.y_proj.fc2", "caption_projection.linear_2", "W W"),
            outer("attention_y_norm", "caption_norm", "W"),
            outer("final_layer.linear", "proj_out", "32 W"),
        ),
        sizes=({"W": 2240, "F": 5600}, {"W": 1152, "F": 2880}),
        diffusers=InDiffusers(
            "SanaTransformer2DModel",
            {"num_layers": 60},
            loader="SanaLoraLoaderMixin",
            converter="convert_sana_transformer_to_diffusers",
        ),
    ),
    words=("sana",),
)
