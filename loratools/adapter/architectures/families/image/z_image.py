"""Z-Image and Z-Image Turbo: widths W, feed-forward F."""

from __future__ import annotations

from loratools.adapter.architectures.block_transformer import BlockTransformer, Container, InDiffusers, Weight, outer
from loratools.adapter.architectures.family import Family

_REFINER = (
    Weight("attention.qkv", "attention.to_q attention.to_k attention.to_v", "3W W"),
    Weight("attention.out", "attention.to_out.0", "W W"),
    Weight("attention.q_norm", "attention.norm_q", "H", trained=False),
    Weight("attention.k_norm", "attention.norm_k", "H", trained=False),
    Weight("feed_forward.w1", "feed_forward.w1", "F W"),
    Weight("feed_forward.w2", "feed_forward.w2", "W F"),
    Weight("feed_forward.w3", "feed_forward.w3", "F W"),
    Weight("attention_norm1", "attention_norm1", "W", trained=False),
    Weight("attention_norm2", "attention_norm2", "W", trained=False),
    Weight("ffn_norm1", "ffn_norm1", "W", trained=False),
    Weight("ffn_norm2", "ffn_norm2", "W", trained=False),
)
_BLOCK = (*_REFINER, Weight("adaLN_modulation.0", "adaLN_modulation.0", "4W 256"))

FAMILY = Family(
    "z-image",
    "Z-Image",
    "z_image",
    "Z-Image/lora",
    BlockTransformer(
        containers=(
            Container("noise_refiner", "noise_refiner", 2, _BLOCK),
            Container("context_refiner", "context_refiner", 2, _REFINER),
            Container("layers", "layers", 30, _BLOCK),
        ),
        outer=(
            outer("x_embedder", "all_x_embedder.2-1", "W 64"),
            outer("cap_embedder.0", "cap_embedder.0", "2560"),
            outer("cap_embedder.1", "cap_embedder.1", "W 2560"),
            outer("t_embedder.mlp.0", "t_embedder.mlp.0", "1024 256"),
            outer("t_embedder.mlp.2", "t_embedder.mlp.2", "256 1024"),
            outer("final_layer.linear", "all_final_layer.2-1.linear", "64 W"),
            outer("final_layer.adaLN_modulation.1", "all_final_layer.2-1.adaLN_modulation.1", "W 256"),
        ),
        sizes=({"W": 3840, "F": 10240, "H": 128},),
        diffusers=InDiffusers(
            "ZImageTransformer2DModel",
            loader="ZImageLoraLoaderMixin",
            converter="convert_z_image_transformer_checkpoint_to_diffusers",
        ),
    ),
    words=("zimage",),
)
