"""HiDream-I1: width W, experts E, shared experts S; one naming in both networks."""

from __future__ import annotations

from loratools.adapter.architectures.block_transformer import BlockTransformer, Container, InDiffusers, Weight, same
from loratools.adapter.architectures.family import Family, TextEncoder

_EXPERTS = ("ff_i.shared_experts", *(f"ff_i.experts.{number}" for number in range(4)))


def _forward(path: str) -> tuple[Weight, ...]:
    """A gated feed-forward layer."""
    width = "S" if path.endswith("shared_experts") else "E"
    return tuple(same(f"block.{path}.w{part}", f"W {width}" if part == 2 else f"{width} W") for part in (1, 2, 3))


_SINGLE = (
    *(same(f"block.attn1.{part}", "W W") for part in ("to_q", "to_k", "to_v", "to_out")),
    *(weight for path in _EXPERTS for weight in _forward(path)),
    same("block.ff_i.gate", "4 W", trained=False),
    *(same(f"block.attn1.{part}_rms_norm", "W", trained=False) for part in "qk"),
)
_DOUBLE = (
    *_SINGLE,
    *(same(f"block.attn1.{part}", "W W") for part in ("to_q_t", "to_k_t", "to_v_t", "to_out_t")),
    *_forward("ff_t"),
    same("block.adaLN_modulation.1", "12W W"),
    *(same(f"block.attn1.{part}_rms_norm_t", "W", trained=False) for part in "qk"),
)

FAMILY = Family(
    "hidream-i1",
    "HiDream-I1",
    "hidream_i1",
    "HiDream-I1/lora",
    BlockTransformer(
        containers=(
            Container("double_stream_blocks", "double_stream_blocks", 16, _DOUBLE, block="double"),
            Container(
                "single_stream_blocks",
                "single_stream_blocks",
                32,
                (*_SINGLE, same("block.adaLN_modulation.1", "6W W")),
                block="single",
            ),
        ),
        outer=(
            same("t_embedder.timestep_embedder.linear_1", "W 256", trained=False),
            same("t_embedder.timestep_embedder.linear_2", "W W", trained=False),
            same("p_embedder.pooled_embedder.linear_1", "W 2048", trained=False),
            same("p_embedder.pooled_embedder.linear_2", "W W", trained=False),
            same("x_embedder.proj", "W 64", trained=False),
            *(same(f"caption_projection.{number}.linear", "W 4096", trained=False) for number in range(49)),
            same("final_layer.linear", "64 W", trained=False),
            same("final_layer.adaLN_modulation.1", "2W W", trained=False),
        ),
        sizes=({"W": 2560, "E": 6912, "S": 3584},),
        diffusers=InDiffusers(
            "HiDreamImageTransformer2DModel",
            {
                "patch_size": 2,
                "in_channels": 16,
                "caption_channels": [4096, 4096],
                "axes_dims_rope": (64, 32, 32),
                "llama_layers": list(range(48)),
            },
            loader="HiDreamImageLoraLoaderMixin",
        ),
    ),
    text=(
        TextEncoder("text_encoder", "lora_te1", 12, "clip_l", projection=True),
        TextEncoder("text_encoder_2", "lora_te2", 32, "clip_g", projection=True),
        TextEncoder("text_encoder_3", "lora_te3", 24, "t5xxl", "t5"),
        TextEncoder("text_encoder_4", "lora_te4", 32, "llama", "llama"),
    ),
    words=("hidream",),
)
