"""ERNIE-Image: width W, feed-forward F; one naming in both networks."""

from __future__ import annotations

from loratools.adapter.architectures.block_transformer import BlockTransformer, Container, InDiffusers, same
from loratools.adapter.architectures.family import Family

_BLOCK = (
    *(same(f"self_attention.{part}", "W W") for part in ("to_q", "to_k", "to_v", "to_out.0")),
    same("mlp.gate_proj", "F W"),
    same("mlp.up_proj", "F W"),
    same("mlp.linear_fc2", "W F"),
    *(same(f"self_attention.norm_{part}", "H", trained=False) for part in "qk"),
    same("adaLN_sa_ln", "W", trained=False),
    same("adaLN_mlp_ln", "W", trained=False),
)

FAMILY = Family(
    "ernie-image",
    "ERNIE-Image",
    "ernie_image",
    "ERNIE-Image/lora",
    BlockTransformer(
        containers=(Container("layers", "layers", 36, _BLOCK),),
        outer=(
            same("x_embedder.proj", "W 128 1 1", trained=False),
            same("text_proj", "W C", trained=False),
            same("time_embedding.linear_1", "W W", trained=False),
            same("time_embedding.linear_2", "W W", trained=False),
            same("adaLN_modulation.1", "6W W", trained=False),
            same("final_norm.linear", "2W W", trained=False),
            same("final_linear", "128 W", trained=False),
        ),
        # those of Diffusers' class, and of a network of 8 billion weights, which nobody read in a published file
        sizes=({"W": 3072, "F": 8192, "H": 128, "C": 2560}, {"W": 4096, "F": 12288, "H": 128, "C": 3072}),
        diffusers=InDiffusers("ErnieImageTransformer2DModel", {"num_layers": 36}, loader="ErnieImageLoraLoaderMixin"),
    ),
    words=("ernie",),
)
