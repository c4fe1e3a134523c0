"""Cosmos-Predict2, 14B and 2B; Anima is built on its network."""

from __future__ import annotations

from loratools.adapter.architectures.block_transformer import BlockTransformer, Container, InDiffusers, Weight
from loratools.adapter.architectures.family import Family


def _modulation(original: str, name: str) -> tuple[Weight, Weight]:
    """The two matrices of a block's modulation, 256 between them."""
    return (
        Weight(f"adaln_modulation_{original}.1", f"{name}.linear_1", "256 W", trained=False),
        Weight(f"adaln_modulation_{original}.2", f"{name}.linear_2", "3W 256", trained=False),
    )


BLOCK = (
    *(Weight(f"self_attn.{part}_proj", f"attn1.to_{part}", "W W") for part in "qkv"),
    Weight("self_attn.output_proj", "attn1.to_out.0", "W W"),
    Weight("cross_attn.q_proj", "attn2.to_q", "W W"),
    Weight("cross_attn.k_proj", "attn2.to_k", "W 1024"),
    Weight("cross_attn.v_proj", "attn2.to_v", "W 1024"),
    Weight("cross_attn.output_proj", "attn2.to_out.0", "W W"),
    *(Weight(f"self_attn.{part}_norm", f"attn1.norm_{part}", "H", trained=False) for part in "qk"),
    *(Weight(f"cross_attn.{part}_norm", f"attn2.norm_{part}", "H", trained=False) for part in "qk"),
    Weight("mlp.layer1", "ff.net.0.proj", "4W W"),
    Weight("mlp.layer2", "ff.net.2", "W 4W"),
    *_modulation("self_attn", "norm1"),
    *_modulation("cross_attn", "norm2"),
    *_modulation("mlp", "norm3"),
)
OUTER = (
    Weight("x_embedder.proj.1", "patch_embed.proj", "W P", trained=False),
    Weight("t_embedder.1.linear_1", "time_embed.t_embedder.linear_1", "W W", trained=False),
    Weight("t_embedder.1.linear_2", "time_embed.t_embedder.linear_2", "3W W", trained=False),
    Weight("t_embedding_norm", "time_embed.norm", "W", trained=False),
    Weight("final_layer.linear", "proj_out", "64 W", trained=False),
    Weight("final_layer.adaln_modulation.1", "norm_out.linear_1", "256 W", trained=False),
    Weight("final_layer.adaln_modulation.2", "norm_out.linear_2", "2W 256", trained=False),
)

FAMILY = Family(
    "cosmos-predict2",
    "Cosmos-Predict2",
    "cosmos_predict2",
    "Cosmos-Predict2/lora",
    BlockTransformer(
        containers=(Container("blocks", "transformer_blocks", 36, BLOCK, block="blocks"),),
        outer=OUTER,
        sizes=({"W": 5120, "H": 128, "P": 72}, {"W": 2048, "H": 128, "P": 72}),
        diffusers=InDiffusers(
            "CosmosTransformer3DModel",
            {"num_attention_heads": 40, "num_layers": 36, "in_channels": 17},
            loader="CosmosLoraLoaderMixin",
            converter="convert_cosmos_transformer_checkpoint_to_diffusers",
        ),
    ),
    words=("cosmos",),
)
