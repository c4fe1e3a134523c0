"""Lumina Image 2 and Neta Lumina (NetaYume): widths W, of keys and values K; fewer heads for keys than for queries."""

from __future__ import annotations

from loratools.adapter.architectures.block_transformer import BlockTransformer, Container, InDiffusers, Weight, outer
from loratools.adapter.architectures.family import Family, TextEncoder

_REFINER = (
    Weight("attention.qkv", "attn.to_q attn.to_k attn.to_v", "5K W", shares=(3, 1, 1)),
    Weight("attention.out", "attn.to_out.0", "W W"),
    Weight("feed_forward.w1", "feed_forward.linear_1", "F W"),
    Weight("feed_forward.w2", "feed_forward.linear_2", "W F"),
    Weight("feed_forward.w3", "feed_forward.linear_3", "F W"),
    outer("attention.q_norm", "attn.norm_q", "H"),
    outer("attention.k_norm", "attn.norm_k", "H"),
    outer("attention_norm2", "norm2", "W"),
    outer("ffn_norm1", "ffn_norm1", "W"),
    outer("ffn_norm2", "ffn_norm2", "W"),
)
_CONTEXT = (*_REFINER, outer("attention_norm1", "norm1", "W"))
_BLOCK = (
    *_REFINER,
    outer("attention_norm1", "norm1.norm", "W"),
    Weight("adaLN_modulation.1", "norm1.linear", "4W 1024"),
)

FAMILY = Family(
    "lumina-2",
    "Lumina 2",
    "lumina2",
    "lumina-2/lora",
    BlockTransformer(
        containers=(
            Container("noise_refiner", "noise_refiner", 2, _BLOCK),
            Container("context_refiner", "context_refiner", 2, _CONTEXT),
            Container("layers", "layers", 26, _BLOCK),
        ),
        outer=(
            outer("x_embedder", "x_embedder", "W 64"),
            outer("t_embedder.mlp.0", "time_caption_embed.timestep_embedder.linear_1", "1024 256"),
            outer("t_embedder.mlp.2", "time_caption_embed.timestep_embedder.linear_2", "1024 1024"),
            outer("cap_embedder.0", "time_caption_embed.caption_embedder.0", "C"),
            outer("cap_embedder.1", "time_caption_embed.caption_embedder.1", "W C"),
            outer("final_layer.adaLN_modulation.1", "norm_out.linear_1", "W 1024"),
            outer("final_layer.linear", "norm_out.linear_2", "64 W"),
        ),
        sizes=({"W": 2304, "K": 768, "F": 9216, "H": 96, "C": 2304},),
        diffusers=InDiffusers(
            "Lumina2Transformer2DModel",
            {"cap_feat_dim": 2304},
            loader="Lumina2LoraLoaderMixin",
            converter="convert_lumina2_to_diffusers",
        ),
    ),
    text=(TextEncoder("text_encoder", "lora_te", 26, "gemma2_2b", "llama"),),
    words=("lumina2", "netalumina", "netayume"),
)
