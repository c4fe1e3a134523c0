"""AuraFlow and Pony v7: width W, feed-forward F."""

from __future__ import annotations

from loratools.adapter.architectures.block_transformer import BlockTransformer, Container, InDiffusers, Weight, outer
from loratools.adapter.architectures.family import Family

_FORWARD = (("c_fc1", "linear_1", "F W"), ("c_fc2", "linear_2", "F W"), ("c_proj", "out_projection", "W F"))
_DOUBLE = (
    *(Weight(f"attn.w2{part}", f"attn.to_{part}", "W W") for part in "qkv"),
    Weight("attn.w2o", "attn.to_out.0", "W W"),
    *(Weight(f"attn.w1{part}", f"attn.add_{part}_proj", "W W") for part in "qkv"),
    Weight("attn.w1o", "attn.to_add_out", "W W"),
    *(Weight(f"mlpX.{original}", f"ff.{name}", shape) for original, name, shape in _FORWARD),
    *(Weight(f"mlpC.{original}", f"ff_context.{name}", shape) for original, name, shape in _FORWARD),
    Weight("modX.1", "norm1.linear", "6W W"),
    Weight("modC.1", "norm1_context.linear", "6W W"),
)
_SINGLE = (
    *(Weight(f"attn.w1{part}", f"attn.to_{part}", "W W") for part in "qkv"),
    Weight("attn.w1o", "attn.to_out.0", "W W"),
    *(Weight(f"mlp.{original}", f"ff.{name}", shape) for original, name, shape in _FORWARD),
    Weight("modCX.1", "norm1.linear", "6W W"),
)

FAMILY = Family(
    "auraflow",
    "AuraFlow",
    "auraflow",
    "auraflow/lora",
    BlockTransformer(
        containers=(
            Container("double_layers", "joint_transformer_blocks", 4, _DOUBLE, block="double"),
            Container("single_layers", "single_transformer_blocks", 32, _SINGLE, block="single"),
        ),
        outer=(
            outer("init_x_linear", "pos_embed.proj", "W 16"),
            outer("cond_seq_linear", "context_embedder", "W 2048"),
            outer("t_embedder.mlp.0", "time_step_proj.linear_1", "W 256"),
            outer("t_embedder.mlp.2", "time_step_proj.linear_2", "W W"),
            outer("modF.1", "norm_out.linear", "2W W", "halves"),
            outer("final_linear", "proj_out", "16 W"),
        ),
        sizes=({"W": 3072, "F": 8192},),
        diffusers=InDiffusers(
            "AuraFlowTransformer2DModel",
            loader="AuraFlowLoraLoaderMixin",
            converter="convert_auraflow_transformer_checkpoint_to_diffusers",
        ),
    ),
    words=("auraflow", "ponyv7"),
)
