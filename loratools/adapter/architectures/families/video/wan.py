"""Wan 2.1 and 2.2: 14B, 5B, 1.3B. The two files of 2.2's 14B (high and low noise) have the same names."""

from __future__ import annotations

from loratools.adapter.architectures.block_transformer import BlockTransformer, Container, InDiffusers, Weight, outer
from loratools.adapter.architectures.family import Family

_BLOCK = (
    *(Weight(f"self_attn.{part}", f"attn1.to_{part}", "W W") for part in "qkv"),
    Weight("self_attn.o", "attn1.to_out.0", "W W"),
    *(Weight(f"cross_attn.{part}", f"attn2.to_{part}", "W W") for part in "qkv"),
    Weight("cross_attn.o", "attn2.to_out.0", "W W"),
    Weight("cross_attn.k_img", "attn2.add_k_proj", "W W"),
    Weight("cross_attn.v_img", "attn2.add_v_proj", "W W"),
    Weight("self_attn.norm_q", "attn1.norm_q", "W", trained=False),
    Weight("self_attn.norm_k", "attn1.norm_k", "W", trained=False),
    Weight("cross_attn.norm_q", "attn2.norm_q", "W", trained=False),
    Weight("cross_attn.norm_k", "attn2.norm_k", "W", trained=False),
    Weight("cross_attn.norm_k_img", "attn2.norm_added_k", "W", trained=False),
    Weight("norm3", "norm2", "W", trained=False),
    Weight("ffn.0", "ffn.net.0.proj", "F W"),
    Weight("ffn.2", "ffn.net.2", "W F"),
)

FAMILY = Family(
    "wan",
    "Wan",
    "wan",
    "wan2.1/lora",
    BlockTransformer(
        containers=(Container("blocks", "blocks", 40, _BLOCK),),
        outer=(
            outer("patch_embedding", "patch_embedding", "W C 1 2 2"),
            outer("text_embedding.0", "condition_embedder.text_embedder.linear_1", "W 4096"),
            outer("text_embedding.2", "condition_embedder.text_embedder.linear_2", "W W"),
            outer("time_embedding.0", "condition_embedder.time_embedder.linear_1", "W 256"),
            outer("time_embedding.2", "condition_embedder.time_embedder.linear_2", "W W"),
            outer("time_projection.1", "condition_embedder.time_proj", "6W W"),
            outer("img_emb.proj.0", "condition_embedder.image_embedder.norm1", "1280"),
            outer("img_emb.proj.1", "condition_embedder.image_embedder.ff.net.0.proj", "1280 1280"),
            outer("img_emb.proj.3", "condition_embedder.image_embedder.ff.net.2", "W 1280"),
            outer("img_emb.proj.4", "condition_embedder.image_embedder.norm2", "W"),
            outer("head.head", "proj_out", "O W"),
        ),
        sizes=(
            {"W": 5120, "F": 13824, "C": 16, "O": 64},
            {"W": 5120, "F": 13824, "C": 36, "O": 64},
            {"W": 3072, "F": 14336, "C": 48, "O": 192},
            {"W": 1536, "F": 8960, "C": 16, "O": 64},
        ),
        diffusers=InDiffusers(
            "WanTransformer3DModel",
            {"image_dim": 1280, "added_kv_proj_dim": 5120},
            loader="WanLoraLoaderMixin",
            converter="convert_wan_transformer_to_diffusers",
        ),
    ),
    words=("wan",),
)
