"""Flux.2: dev, klein 9B, klein 4B."""

from __future__ import annotations

from loratools.adapter.architectures.block_transformer import BlockTransformer, Container, InDiffusers, Weight, outer
from loratools.adapter.architectures.family import Family, Model

_DOUBLE = (
    Weight("img_attn.qkv", "attn.to_q attn.to_k attn.to_v", "3W W"),
    Weight("txt_attn.qkv", "attn.add_q_proj attn.add_k_proj attn.add_v_proj", "3W W"),
    Weight("img_attn.proj", "attn.to_out.0", "W W"),
    Weight("txt_attn.proj", "attn.to_add_out", "W W"),
    Weight("img_attn.norm.query_norm", "attn.norm_q", "H", trained=False),
    Weight("img_attn.norm.key_norm", "attn.norm_k", "H", trained=False),
    Weight("txt_attn.norm.query_norm", "attn.norm_added_q", "H", trained=False),
    Weight("txt_attn.norm.key_norm", "attn.norm_added_k", "H", trained=False),
    Weight("img_mlp.0", "ff.linear_in", "6W W"),
    Weight("img_mlp.2", "ff.linear_out", "W 3W"),
    Weight("txt_mlp.0", "ff_context.linear_in", "6W W"),
    Weight("txt_mlp.2", "ff_context.linear_out", "W 3W"),
)
_SINGLE = (
    Weight("linear1", "attn.to_qkv_mlp_proj", "9W W"),
    Weight("linear2", "attn.to_out", "W 4W"),
    Weight("norm.query_norm", "attn.norm_q", "H", trained=False),
    Weight("norm.key_norm", "attn.norm_k", "H", trained=False),
)

FAMILY = Family(
    "flux2",
    "Flux.2",
    "flux_2",
    "Flux.2/lora",
    BlockTransformer(
        containers=(
            Container("double_blocks", "transformer_blocks", 8, _DOUBLE, block="double"),
            Container("single_blocks", "single_transformer_blocks", 48, _SINGLE, block="single"),
        ),
        outer=(
            outer("img_in", "x_embedder", "W 128"),
            outer("txt_in", "context_embedder", "W C"),
            outer("time_in.in_layer", "time_guidance_embed.timestep_embedder.linear_1", "W 256"),
            outer("time_in.out_layer", "time_guidance_embed.timestep_embedder.linear_2", "W W"),
            outer("guidance_in.in_layer", "time_guidance_embed.guidance_embedder.linear_1", "W 256"),
            outer("guidance_in.out_layer", "time_guidance_embed.guidance_embedder.linear_2", "W W"),
            outer("double_stream_modulation_img.lin", "double_stream_modulation_img.linear", "6W W"),
            outer("double_stream_modulation_txt.lin", "double_stream_modulation_txt.linear", "6W W"),
            outer("single_stream_modulation.lin", "single_stream_modulation.linear", "3W W"),
            outer("final_layer.linear", "proj_out", "128 W"),
            outer("final_layer.adaLN_modulation.1", "norm_out.linear", "2W W", "halves"),
        ),
        sizes=(
            {"W": 6144, "H": 128, "C": 15360},
            {"W": 4096, "H": 128, "C": 12288},
            {"W": 3072, "H": 128, "C": 7680},
        ),
        diffusers=InDiffusers(
            "Flux2Transformer2DModel",
            loader="Flux2LoraLoaderMixin",
            converter="convert_flux2_transformer_checkpoint_to_diffusers",
        ),
    ),
    words=("flux2",),
    sizes=(
        Model("flux2-dev", "Flux.2 dev", ("flux2dev",)),
        Model("flux2-klein-4b", "Flux.2 klein 4B", ("flux2klein4b", "flux2kleinbase4b")),
        Model("flux2-klein-9b", "Flux.2 klein 9B", ("flux2klein9b", "flux2kleinbase9b")),
    ),
)
