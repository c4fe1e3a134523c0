"""HunyuanVideo and FramePack; HunyuanImage and HunyuanVideo 1.5 have the same kinds of blocks."""

from __future__ import annotations

from loratools.adapter.architectures.block_transformer import BlockTransformer, Container, InDiffusers, Weight, outer
from loratools.adapter.architectures.family import Family, TextEncoder

DOUBLE = (
    Weight("img_attn.qkv", "attn.to_q attn.to_k attn.to_v", "3W W", also="img_attn_qkv"),
    Weight("txt_attn.qkv", "attn.add_q_proj attn.add_k_proj attn.add_v_proj", "3W W", also="txt_attn_qkv"),
    Weight("img_attn.proj", "attn.to_out.0", "W W", also="img_attn_proj"),
    Weight("txt_attn.proj", "attn.to_add_out", "W W", also="txt_attn_proj"),
    Weight("img_mlp.0", "ff.net.0.proj", "4W W", also="img_mlp.fc1"),
    Weight("img_mlp.2", "ff.net.2", "W 4W", also="img_mlp.fc2"),
    Weight("txt_mlp.0", "ff_context.net.0.proj", "4W W", also="txt_mlp.fc1"),
    Weight("txt_mlp.2", "ff_context.net.2", "W 4W", also="txt_mlp.fc2"),
    Weight("img_mod.lin", "norm1.linear", "6W W", also="img_mod.linear"),
    Weight("txt_mod.lin", "norm1_context.linear", "6W W", also="txt_mod.linear"),
    outer("img_attn.norm.query_norm", "attn.norm_q", "H", also="img_attn_q_norm"),
    outer("img_attn.norm.key_norm", "attn.norm_k", "H", also="img_attn_k_norm"),
    outer("txt_attn.norm.query_norm", "attn.norm_added_q", "H", also="txt_attn_q_norm"),
    outer("txt_attn.norm.key_norm", "attn.norm_added_k", "H", also="txt_attn_k_norm"),
)
SINGLE = (
    Weight("linear1", "attn.to_q attn.to_k attn.to_v proj_mlp", "7W W", shares=(1, 1, 1, 4)),
    Weight("linear2", "proj_out", "W 5W"),
    Weight("modulation.lin", "norm.linear", "3W W", also="modulation.linear"),
    outer("norm.query_norm", "attn.norm_q", "H", also="q_norm"),
    outer("norm.key_norm", "attn.norm_k", "H", also="k_norm"),
)
REFINER = (
    Weight("self_attn.qkv", "attn.to_q attn.to_k attn.to_v", "3W W", also="self_attn_qkv"),
    Weight("self_attn.proj", "attn.to_out.0", "W W", also="self_attn_proj"),
    Weight("mlp.0", "ff.net.0.proj", "4W W", also="mlp.fc1"),
    Weight("mlp.2", "ff.net.2", "W 4W", also="mlp.fc2"),
    Weight("adaLN_modulation.1", "norm_out.linear", "2W W"),
    outer("norm1", "norm1", "W"),
    outer("norm2", "norm2", "W"),
)


def text_refiner() -> Container:
    """The text's refiner of two blocks."""
    original, name = "txt_in.individual_token_refiner.blocks", "context_embedder.token_refiner.refiner_blocks"
    return Container(original, name, 2, REFINER, block="refiner")


def embedder(original: str, name: str, columns: str, also: str = "") -> tuple[Weight, ...]:
    """Two layers that take a number or a vector to the width W."""
    others = (f"{original}.{word}" for word in also.split())
    return (
        outer(f"{original}.in_layer", f"{name}.linear_1", f"W {columns}", also=next(others, "")),
        outer(f"{original}.out_layer", f"{name}.linear_2", "W W", also=next(others, "")),
    )


def text_outer(columns: str) -> tuple[Weight, ...]:
    """What stands before the text's refiner."""
    embed = "context_embedder.time_text_embed"
    return (
        outer("txt_in.input_embedder", "context_embedder.proj_in", f"W {columns}"),
        *embedder("txt_in.t_embedder", f"{embed}.timestep_embedder", "256", also="mlp.0 mlp.2"),
        *embedder("txt_in.c_embedder", f"{embed}.text_embedder", columns, also="linear_1 linear_2"),
    )


FAMILY = Family(
    "hunyuan-video",
    "HunyuanVideo",
    "hunyuan_video",
    "hunyuan-video/lora",
    BlockTransformer(
        containers=(
            text_refiner(),
            Container("double_blocks", "transformer_blocks", 20, DOUBLE, block="double"),
            Container("single_blocks", "single_transformer_blocks", 40, SINGLE, block="single"),
        ),
        outer=(
            *text_outer("4096"),
            outer("img_in.proj", "x_embedder.proj", "W 16 1 2 2"),
            *embedder("time_in", "time_text_embed.timestep_embedder", "256", also="mlp.0 mlp.2"),
            *embedder("vector_in", "time_text_embed.text_embedder", "768"),
            *embedder("guidance_in", "time_text_embed.guidance_embedder", "256", also="mlp.0 mlp.2"),
            outer("final_layer.linear", "proj_out", "64 W"),
            outer("final_layer.adaLN_modulation.1", "norm_out.linear", "2W W", "halves"),
        ),
        sizes=({"W": 3072, "H": 128},),
        diffusers=InDiffusers(
            "HunyuanVideoTransformer3DModel",
            loader="HunyuanVideoLoraLoaderMixin",
            converter="convert_hunyuan_video_transformer_to_diffusers",
        ),
    ),
    text=(
        TextEncoder("text_encoder", "lora_te1", 32, "llama", "llama", more_prefixes=("lora_te",)),
        TextEncoder("text_encoder_2", "lora_te2", 12, "clip_l"),
    ),
    words=("hunyuanvideo", "framepack"),
)
