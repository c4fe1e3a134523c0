"""HunyuanImage 2.1: HunyuanVideo's blocks at another width."""

from __future__ import annotations

from loratools.adapter.architectures.block_transformer import BlockTransformer, Container, InDiffusers, outer
from loratools.adapter.architectures.families.video.hunyuan_video import (
    DOUBLE,
    SINGLE,
    embedder,
    text_outer,
    text_refiner,
)
from loratools.adapter.architectures.family import Family

FAMILY = Family(
    "hunyuan-image",
    "HunyuanImage",
    "hunyuan_image",
    "hunyuan-image-2.1/lora",
    BlockTransformer(
        containers=(
            text_refiner(),
            Container("double_blocks", "transformer_blocks", 20, DOUBLE, block="double"),
            Container("single_blocks", "single_transformer_blocks", 40, SINGLE, block="single"),
        ),
        outer=(
            *text_outer("3584"),
            outer("byt5_in.layernorm", "context_embedder_2.norm", "1472"),
            outer("byt5_in.fc1", "context_embedder_2.linear_1", "2048 1472"),
            outer("byt5_in.fc2", "context_embedder_2.linear_2", "2048 2048"),
            outer("byt5_in.fc3", "context_embedder_2.linear_3", "W 2048"),
            outer("img_in.proj", "x_embedder.proj", "W 64 1 1"),
            *embedder("time_in", "time_guidance_embed.timestep_embedder", "256", also="mlp.0 mlp.2"),
            *embedder("time_r_in", "time_guidance_embed.timestep_embedder_r", "256", also="mlp.0 mlp.2"),
            *embedder("guidance_in", "time_guidance_embed.guidance_embedder", "256", also="mlp.0 mlp.2"),
            outer("final_layer.linear", "proj_out", "64 W"),
            outer("final_layer.adaLN_modulation.1", "norm_out.linear", "2W W", "halves"),
        ),
        sizes=({"W": 3584, "H": 128},),
        diffusers=InDiffusers(
            "HunyuanImageTransformer2DModel", {"guidance_embeds": True, "use_meanflow": True, "text_embed_2_dim": 1472}
        ),
    ),
    words=("hunyuanimage",),
)
