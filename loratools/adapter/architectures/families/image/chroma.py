"""Chroma: Flux.1's blocks without their modulation, which one network for all blocks (width A) guides."""

from __future__ import annotations

from loratools.adapter.architectures.block_transformer import (
    BlockTransformer,
    Container,
    InDiffusers,
    Slots,
    Weight,
    outer,
)
from loratools.adapter.architectures.family import Family, TextEncoder

_DOUBLE = (
    Weight("img_attn.qkv", "attn.to_q attn.to_k attn.to_v", "3W W"),
    Weight("txt_attn.qkv", "attn.add_q_proj attn.add_k_proj attn.add_v_proj", "3W W"),
    Weight("img_attn.proj", "attn.to_out.0", "W W"),
    Weight("txt_attn.proj", "attn.to_add_out", "W W"),
    Weight("img_mlp.0", "ff.net.0.proj", "4W W"),
    Weight("img_mlp.2", "ff.net.2", "W 4W"),
    Weight("txt_mlp.0", "ff_context.net.0.proj", "4W W"),
    Weight("txt_mlp.2", "ff_context.net.2", "W 4W"),
    outer("img_attn.norm.query_norm", "attn.norm_q", "H"),
    outer("img_attn.norm.key_norm", "attn.norm_k", "H"),
    outer("txt_attn.norm.query_norm", "attn.norm_added_q", "H"),
    outer("txt_attn.norm.key_norm", "attn.norm_added_k", "H"),
)
_SINGLE = (
    Weight("linear1", "attn.to_q attn.to_k attn.to_v proj_mlp", "7W W", shares=(1, 1, 1, 4)),
    Weight("linear2", "proj_out", "W 5W"),
    outer("norm.query_norm", "attn.norm_q", "H"),
    outer("norm.key_norm", "attn.norm_k", "H"),
)
_GUIDE = "distilled_guidance_layer"

FAMILY = Family(
    "chroma",
    "Chroma",
    "chroma",
    "chroma/lora",
    BlockTransformer(
        containers=(
            Container("double_blocks", "transformer_blocks", 19, _DOUBLE, block="D"),
            Container("single_blocks", "single_transformer_blocks", 38, _SINGLE, block="S"),
        ),
        outer=(
            outer("img_in", "x_embedder", "W 64"),
            outer("txt_in", "context_embedder", "W 4096"),
            outer(f"{_GUIDE}.in_proj", f"{_GUIDE}.in_proj", "A 64"),
            *(outer(f"{_GUIDE}.layers.{i}.in_layer", f"{_GUIDE}.layers.{i}.linear_1", "A A") for i in range(5)),
            *(outer(f"{_GUIDE}.layers.{i}.out_layer", f"{_GUIDE}.layers.{i}.linear_2", "A A") for i in range(5)),
            *(outer(f"{_GUIDE}.norms.{i}", f"{_GUIDE}.norms.{i}", "A") for i in range(5)),
            outer(f"{_GUIDE}.out_proj", f"{_GUIDE}.out_proj", "W A"),
            outer("final_layer.linear", "proj_out", "64 W"),
        ),
        sizes=({"W": 3072, "H": 128, "A": 5120},),
        diffusers=InDiffusers(
            "ChromaTransformer2DModel",
            loader="FluxLoraLoaderMixin",
            converter="convert_chroma_transformer_checkpoint_to_diffusers",
        ),
        slots=Slots(  # Flux.1's, so that its vectors mean the same blocks here
            before=(
                ("CLIP", ""),
                ("T5", "text_encoder"),
                ("IN", f"transformer.x_embedder transformer.context_embedder transformer.{_GUIDE}"),
            ),
            after=(("OUT", "transformer.proj_out"),),
        ),
    ),
    text=(TextEncoder("text_encoder", "lora_te", 24, "t5xxl", "t5", more_prefixes=("lora_te1", "lora_te3")),),
    words=("chroma",),
)
