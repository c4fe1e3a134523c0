"""HunyuanVideo 1.5: HunyuanVideo's double blocks, whose trainers keep query, key and value apart."""

from __future__ import annotations

from dataclasses import replace

from loratools.adapter.architectures.block_transformer import BlockTransformer, Container, InDiffusers, Weight, outer
from loratools.adapter.architectures.families.video.hunyuan_video import DOUBLE, embedder, text_outer, text_refiner
from loratools.adapter.architectures.family import Family

_APART = (
    *(Weight(f"img_attn_{part}", f"attn.to_{part}", "W W", stored=False) for part in "qkv"),
    *(Weight(f"txt_attn_{part}", f"attn.add_{part}_proj", "W W", stored=False) for part in "qkv"),
)
_REFINER_APART = tuple(Weight(f"self_attn_{part}", f"attn.to_{part}", "W W", stored=False) for part in "qkv")
_REFINER = text_refiner()

FAMILY = Family(
    "hunyuan-video-1.5",
    "HunyuanVideo 1.5",
    "hunyuan_video_1_5",
    "hunyuan-video-1.5/lora",
    BlockTransformer(
        containers=(
            replace(_REFINER, weights=(*_REFINER.weights, *_REFINER_APART)),
            Container("double_blocks", "transformer_blocks", 54, (*DOUBLE, *_APART), block="double"),
        ),
        outer=(
            *text_outer("3584"),
            outer("vision_in.proj.0", "image_embedder.norm_in", "1152"),
            outer("vision_in.proj.1", "image_embedder.linear_1", "1152 1152"),
            outer("vision_in.proj.3", "image_embedder.linear_2", "W 1152"),
            outer("vision_in.proj.4", "image_embedder.norm_out", "W"),
            outer("byt5_in.layernorm", "context_embedder_2.norm", "1472"),
            outer("byt5_in.fc1", "context_embedder_2.linear_1", "2048 1472"),
            outer("byt5_in.fc2", "context_embedder_2.linear_2", "2048 2048"),
            outer("byt5_in.fc3", "context_embedder_2.linear_3", "W 2048"),
            outer("img_in.proj", "x_embedder.proj", "W 65 1 1 1"),
            *embedder("time_in", "time_embed.timestep_embedder", "256", also="mlp.0 mlp.2"),
            *embedder("time_r_in", "time_embed.timestep_embedder_r", "256", also="mlp.0 mlp.2"),
            outer("cond_type_embedding", "cond_type_embed", "3 W"),
            outer("final_layer.linear", "proj_out", "32 W"),
            outer("final_layer.adaLN_modulation.1", "norm_out.linear", "2W W", "halves"),
        ),
        sizes=({"W": 2048, "H": 128},),
        diffusers=InDiffusers("HunyuanVideo15Transformer3DModel", {"use_meanflow": True}),
    ),
    words=("hunyuanvideo15",),
)
