"""Anima: Cosmos-Predict2's network of 2B, and an adapter for its text encoder."""

from __future__ import annotations

from loratools.adapter.architectures.block_transformer import BlockTransformer, Container, InDiffusers, same
from loratools.adapter.architectures.families.video.cosmos_predict2 import BLOCK, OUTER
from loratools.adapter.architectures.family import Family, TextEncoder

_ADAPTER = (
    *(same(f"{kind}_attn.{part}_proj", "A A") for kind in ("self", "cross") for part in "qkvo"),
    same("mlp.0", "4A A"),
    same("mlp.2", "A 4A"),
)

FAMILY = Family(
    "anima",
    "Anima",
    "anima",
    "anima/lora",
    BlockTransformer(
        containers=(
            Container("llm_adapter.blocks", "blocks", 6, _ADAPTER, "text_conditioner", "adapter"),
            Container("blocks", "transformer_blocks", 28, BLOCK, block="blocks"),
        ),
        outer=OUTER,
        sizes=({"W": 2048, "H": 128, "P": 68, "A": 1024},),
        diffusers=InDiffusers(
            "CosmosTransformer3DModel",
            {"num_attention_heads": 16, "num_layers": 28, "in_channels": 16},
            loader="AnimaLoraLoaderMixin",
            converter="convert_cosmos_transformer_checkpoint_to_diffusers",
        ),
    ),
    text=(TextEncoder("text_encoder", "lora_te", 28, "qwen3_06b", "llama"),),
    words=("anima",),
)
