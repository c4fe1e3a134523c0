"""LTX-2 and 2.3: pictures of width W, sound of width A, and what goes between them."""

from __future__ import annotations

from loratools.adapter.architectures.block_transformer import (
    BlockTransformer,
    Container,
    InDiffusers,
    Weight,
    outer,
    same,
)
from loratools.adapter.architectures.family import Family

# an attention layer's name -> width of queries and of the result, of keys and values, and inside
_ATTENTION = {
    "attn1": ("W", "W", "W"),
    "attn2": ("W", "W", "W"),
    "audio_attn1": ("A", "A", "A"),
    "audio_attn2": ("A", "A", "A"),
    "audio_to_video_attn": ("W", "A", "A"),
    "video_to_audio_attn": ("A", "W", "A"),
}


def _attention(name: str, outside: str, keys: str, inside: str) -> tuple[Weight, ...]:
    """An attention layer; 2.3 has a gate of one number a head."""
    return (
        same(f"{name}.to_q", f"{inside} {outside}"),
        same(f"{name}.to_k", f"{inside} {keys}"),
        same(f"{name}.to_v", f"{inside} {keys}"),
        same(f"{name}.to_out.0", f"{outside} {inside}"),
        same(f"{name}.to_gate_logits", f"H {outside}", trained=False),
        outer(f"{name}.q_norm", f"{name}.norm_q", inside),
        outer(f"{name}.k_norm", f"{name}.norm_k", inside),
    )


def _forward(name: str, width: str) -> tuple[Weight, ...]:
    """A feed-forward layer."""
    return same(f"{name}.net.0.proj", f"4{width} {width}"), same(f"{name}.net.2", f"{width} 4{width}")


def _timestep(original: str, name: str, width: str, rows: str) -> tuple[Weight, ...]:
    """What makes a modulation of the timestep."""
    embedder = "emb.timestep_embedder"
    return (
        outer(f"{original}.{embedder}.linear_1", f"{name}.{embedder}.linear_1", f"{width} 256"),
        outer(f"{original}.{embedder}.linear_2", f"{name}.{embedder}.linear_2", f"{width} {width}"),
        outer(f"{original}.linear", f"{name}.linear", f"{rows} {width}"),
    )


def _stream(word: str, width: str, modulation: str) -> tuple[Weight, ...]:
    """What stands outside the blocks for pictures (no word) or for sound; ``modulation`` is 2.3's height."""
    return (
        outer(f"{word}patchify_proj", f"{word}proj_in", f"{width} 128"),
        *_timestep(f"{word}adaln_single", f"{word}time_embed", width, modulation),
        *_timestep(f"{word}prompt_adaln_single", f"{word}prompt_adaln", width, f"2{width}"),
        outer(f"{word}caption_projection.linear_1", f"{word}caption_projection.linear_1", f"{width} 3840"),
        outer(f"{word}caption_projection.linear_2", f"{word}caption_projection.linear_2", f"{width} {width}"),
        outer(f"{word}proj_out", f"{word}proj_out", f"128 {width}"),
    )


_BLOCK = (
    *(weight for name, widths in _ATTENTION.items() for weight in _attention(name, *widths)),
    *_forward("ff", "W"),
    *_forward("audio_ff", "A"),
)

FAMILY = Family(
    "ltx-2",
    "LTX-2",
    "ltx2",
    "LTX-2/lora",
    BlockTransformer(
        containers=(Container("transformer_blocks", "transformer_blocks", 48, _BLOCK, block="blocks"),),
        outer=(
            *_stream("", "W", "M"),
            *_stream("audio_", "A", "N"),
            *_timestep("av_ca_video_scale_shift_adaln_single", "av_cross_attn_video_scale_shift", "W", "4W"),
            *_timestep("av_ca_audio_scale_shift_adaln_single", "av_cross_attn_audio_scale_shift", "A", "4A"),
            *_timestep("av_ca_a2v_gate_adaln_single", "av_cross_attn_video_a2v_gate", "W", "W"),
            *_timestep("av_ca_v2a_gate_adaln_single", "av_cross_attn_audio_v2a_gate", "A", "A"),
            Weight(
                "text_embedding_projection.aggregate_embed",
                "text_proj_in",
                "3840 188160",
                trained=False,
                component="connectors",
            ),
        ),
        sizes=(
            {"W": 4096, "A": 2048, "H": 32, "M": 36864, "N": 18432},
            {"W": 4096, "A": 2048, "H": 32, "M": 24576, "N": 12288},
        ),
        diffusers=InDiffusers(
            "LTX2VideoTransformer3DModel",
            dict.fromkeys(("gated_attn", "cross_attn_mod", "audio_gated_attn", "audio_cross_attn_mod"), True),
            loader="LTX2LoraLoaderMixin",
            converter="convert_ltx2_transformer_to_diffusers",
        ),
    ),
    words=("ltx2", "ltxv2"),
)
