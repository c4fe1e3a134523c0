"""Krea 2: width W, keys and values K, feed-forward F; the text's refiners T and G."""

from __future__ import annotations

from loratools.adapter.architectures.block_transformer import BlockTransformer, Container, InDiffusers, Weight, outer
from loratools.adapter.architectures.family import Family


def _block(width: str, keys: str, forward: str) -> tuple[Weight, ...]:
    """A block of attention with a gate and a gated feed-forward layer."""
    return (
        Weight("attn.wq", "attn.to_q", f"{width} {width}"),
        Weight("attn.wk", "attn.to_k", f"{keys} {width}"),
        Weight("attn.wv", "attn.to_v", f"{keys} {width}"),
        Weight("attn.wo", "attn.to_out.0", f"{width} {width}"),
        Weight("attn.gate", "attn.to_gate", f"{width} {width}"),
        Weight("mlp.gate", "ff.gate", f"{forward} {width}"),
        Weight("mlp.up", "ff.up", f"{forward} {width}"),
        Weight("mlp.down", "ff.down", f"{width} {forward}"),
        outer("attn.qknorm.qnorm", "attn.norm_q", "H"),
        outer("attn.qknorm.knorm", "attn.norm_k", "H"),
        outer("prenorm", "norm1", width),
        outer("postnorm", "norm2", width),
    )


_QKV = "attn.to_q attn.to_k attn.to_v"
_BLOCK = (*_block("W", "K", "F"), Weight("attn.to_qkv", _QKV, "6K W", shares=(4, 1, 1), stored=False))
_REFINER = (*_block("T", "T", "G"), Weight("attn.to_qkv", _QKV, "3T T", stored=False))

FAMILY = Family(
    "krea-2",
    "Krea 2",
    "krea2",
    "Krea-2/lora",
    BlockTransformer(
        containers=(
            Container("txtfusion.layerwise_blocks", "text_fusion.layerwise_blocks", 2, _REFINER, block="layerwise"),
            Container("txtfusion.refiner_blocks", "text_fusion.refiner_blocks", 2, _REFINER, block="refiner"),
            Container("blocks", "transformer_blocks", 28, _BLOCK, block="blocks"),
        ),
        outer=(
            outer("first", "img_in", "W 64"),
            outer("tmlp.0", "time_embed.linear_1", "W 256"),
            outer("tmlp.2", "time_embed.linear_2", "W W"),
            outer("tproj.1", "time_mod_proj", "6W W"),
            outer("txtmlp.0", "txt_in.norm", "T"),
            outer("txtmlp.1", "txt_in.linear_1", "W T"),
            outer("txtmlp.3", "txt_in.linear_2", "W W"),
            outer("txtfusion.projector", "text_fusion.projector", "1 12"),
            outer("last.norm", "final_layer.norm", "W"),
            outer("last.linear", "final_layer.linear", "64 W"),
        ),
        sizes=({"W": 6144, "K": 1536, "F": 16384, "T": 2560, "G": 6912, "H": 128},),
        diffusers=InDiffusers(
            "Krea2Transformer2DModel",
            loader="Krea2LoraLoaderMixin",
            converter="convert_krea2_transformer_checkpoint_to_diffusers",
        ),
    ),
    words=("krea2",),
)
