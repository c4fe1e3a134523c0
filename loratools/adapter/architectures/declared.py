"""The diffusion transformers of 2025 and 2026, one declaration each (see :mod:`.block_transformer`).

Sources: the published networks and their trainers (Diffusers' model classes; the networks that ComfyUI, musubi-tuner,
sd-scripts, ai-toolkit and diffusion-pipe train). A new family is one more declaration here, and its header words in
:mod:`.header_words`.
"""

from __future__ import annotations

from loratools.adapter.architectures.block_transformer import BlockTransformer, Container, Weight

# ---- Z-Image, Z-Image Turbo: widths W, feed-forward F ----

_Z_IMAGE_REFINER = (
    Weight("attention.qkv", "attention.to_q attention.to_k attention.to_v", "3W W"),
    Weight("attention.out", "attention.to_out.0", "W W"),
    Weight("attention.q_norm", "attention.norm_q", "H", trained=False),
    Weight("attention.k_norm", "attention.norm_k", "H", trained=False),
    Weight("feed_forward.w1", "feed_forward.w1", "F W"),
    Weight("feed_forward.w2", "feed_forward.w2", "W F"),
    Weight("feed_forward.w3", "feed_forward.w3", "F W"),
    Weight("attention_norm1", "attention_norm1", "W", trained=False),
    Weight("attention_norm2", "attention_norm2", "W", trained=False),
    Weight("ffn_norm1", "ffn_norm1", "W", trained=False),
    Weight("ffn_norm2", "ffn_norm2", "W", trained=False),
)
_Z_IMAGE_BLOCK = (*_Z_IMAGE_REFINER, Weight("adaLN_modulation.0", "adaLN_modulation.0", "4W 256"))

Z_IMAGE = BlockTransformer(
    containers=(
        Container("noise_refiner", "noise_refiner", 2, _Z_IMAGE_BLOCK),
        Container("context_refiner", "context_refiner", 2, _Z_IMAGE_REFINER),
        Container("layers", "layers", 30, _Z_IMAGE_BLOCK),
    ),
    outer=(
        Weight("x_embedder", "all_x_embedder.2-1", "W 64", trained=False),
        Weight("cap_embedder.0", "cap_embedder.0", "2560", trained=False),
        Weight("cap_embedder.1", "cap_embedder.1", "W 2560", trained=False),
        Weight("t_embedder.mlp.0", "t_embedder.mlp.0", "1024 256", trained=False),
        Weight("t_embedder.mlp.2", "t_embedder.mlp.2", "256 1024", trained=False),
        Weight("final_layer.linear", "all_final_layer.2-1.linear", "64 W", trained=False),
        Weight("final_layer.adaLN_modulation.1", "all_final_layer.2-1.adaLN_modulation.1", "W 256", trained=False),
    ),
    sizes=({"W": 3840, "F": 10240, "H": 128},),
)

# ---- Flux.2: dev, klein 9B, klein 4B ----

_FLUX2_DOUBLE = (
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
_FLUX2_SINGLE = (
    Weight("linear1", "attn.to_qkv_mlp_proj", "9W W"),
    Weight("linear2", "attn.to_out", "W 4W"),
    Weight("norm.query_norm", "attn.norm_q", "H", trained=False),
    Weight("norm.key_norm", "attn.norm_k", "H", trained=False),
)

FLUX2 = BlockTransformer(
    containers=(
        Container("double_blocks", "transformer_blocks", 8, _FLUX2_DOUBLE, block="double"),
        Container("single_blocks", "single_transformer_blocks", 48, _FLUX2_SINGLE, block="single"),
    ),
    outer=(
        Weight("img_in", "x_embedder", "W 128", trained=False),
        Weight("txt_in", "context_embedder", "W C", trained=False),
        Weight("time_in.in_layer", "time_guidance_embed.timestep_embedder.linear_1", "W 256", trained=False),
        Weight("time_in.out_layer", "time_guidance_embed.timestep_embedder.linear_2", "W W", trained=False),
        Weight("guidance_in.in_layer", "time_guidance_embed.guidance_embedder.linear_1", "W 256", trained=False),
        Weight("guidance_in.out_layer", "time_guidance_embed.guidance_embedder.linear_2", "W W", trained=False),
        Weight("double_stream_modulation_img.lin", "double_stream_modulation_img.linear", "6W W", trained=False),
        Weight("double_stream_modulation_txt.lin", "double_stream_modulation_txt.linear", "6W W", trained=False),
        Weight("single_stream_modulation.lin", "single_stream_modulation.linear", "3W W", trained=False),
        Weight("final_layer.linear", "proj_out", "128 W", trained=False),
        Weight("final_layer.adaLN_modulation.1", "norm_out.linear", "2W W", split="halves", trained=False),
    ),
    sizes=(
        {"W": 6144, "H": 128, "C": 15360},
        {"W": 4096, "H": 128, "C": 12288},
        {"W": 3072, "H": 128, "C": 7680},
    ),
)

# ---- Qwen-Image, Edit, Layered ----


def _same(path: str, shape: str, *, trained: bool = True) -> Weight:
    """A weight that both networks call alike."""
    return Weight(path, path, shape, trained=trained)


_QWEN_BLOCK = (
    *(_same(f"attn.{part}", "W W") for part in ("to_q", "to_k", "to_v", "to_out.0")),
    *(_same(f"attn.{part}", "W W") for part in ("add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")),
    *(_same(f"attn.{part}", "H", trained=False) for part in ("norm_q", "norm_k", "norm_added_q", "norm_added_k")),
    *(_same(f"{stream}_mlp.net.0.proj", "4W W") for stream in ("img", "txt")),
    *(_same(f"{stream}_mlp.net.2", "W 4W") for stream in ("img", "txt")),
    *(_same(f"{stream}_mod.1", "6W W") for stream in ("img", "txt")),
)

QWEN_IMAGE = BlockTransformer(
    containers=(Container("transformer_blocks", "transformer_blocks", 60, _QWEN_BLOCK, block="blocks"),),
    outer=(
        _same("img_in", "W 64", trained=False),
        _same("txt_in", "W 3584", trained=False),
        _same("txt_norm", "3584", trained=False),
        _same("time_text_embed.timestep_embedder.linear_1", "W 256", trained=False),
        _same("time_text_embed.timestep_embedder.linear_2", "W W", trained=False),
        _same("norm_out.linear", "2W W", trained=False),
        _same("proj_out", "64 W", trained=False),
    ),
    sizes=({"W": 3072, "H": 128},),
)

# ---- Wan 2.1, 2.2: 14B, 5B, 1.3B ----

_WAN_BLOCK = (
    *(Weight(f"self_attn.{part}", f"attn1.to_{part}", "W W") for part in "qkv"),
    Weight("self_attn.o", "attn1.to_out.0", "W W"),
    *(Weight(f"cross_attn.{part}", f"attn2.to_{part}", "W W") for part in "qkv"),
    Weight("cross_attn.o", "attn2.to_out.0", "W W"),
    Weight("cross_attn.k_img", "attn2.add_k_proj", "W W"),
    Weight("cross_attn.v_img", "attn2.add_v_proj", "W W"),
    Weight("self_attn.norm_q", "attn1.norm_q", "W", trained=False),
    Weight("self_attn.norm_k", "attn1.norm_k", "W", trained=False),
    Weight("cross_attn.norm_q", "attn2.norm_q", "W", trained=False),
    Weight("cross_attn.norm_k", "attn2.norm_k", "W", trained=False),
    Weight("cross_attn.norm_k_img", "attn2.norm_added_k", "W", trained=False),
    Weight("norm3", "norm2", "W", trained=False),
    Weight("ffn.0", "ffn.net.0.proj", "F W"),
    Weight("ffn.2", "ffn.net.2", "W F"),
)

WAN = BlockTransformer(
    containers=(Container("blocks", "blocks", 40, _WAN_BLOCK),),
    outer=(
        Weight("patch_embedding", "patch_embedding", "W C 1 2 2", trained=False),
        Weight("text_embedding.0", "condition_embedder.text_embedder.linear_1", "W 4096", trained=False),
        Weight("text_embedding.2", "condition_embedder.text_embedder.linear_2", "W W", trained=False),
        Weight("time_embedding.0", "condition_embedder.time_embedder.linear_1", "W 256", trained=False),
        Weight("time_embedding.2", "condition_embedder.time_embedder.linear_2", "W W", trained=False),
        Weight("time_projection.1", "condition_embedder.time_proj", "6W W", trained=False),
        Weight("img_emb.proj.0", "condition_embedder.image_embedder.norm1", "1280", trained=False),
        Weight("img_emb.proj.1", "condition_embedder.image_embedder.ff.net.0.proj", "1280 1280", trained=False),
        Weight("img_emb.proj.3", "condition_embedder.image_embedder.ff.net.2", "W 1280", trained=False),
        Weight("img_emb.proj.4", "condition_embedder.image_embedder.norm2", "W", trained=False),
        Weight("head.head", "proj_out", "O W", trained=False),
    ),
    sizes=(
        {"W": 5120, "F": 13824, "C": 16, "O": 64},
        {"W": 5120, "F": 13824, "C": 36, "O": 64},
        {"W": 3072, "F": 14336, "C": 48, "O": 192},
        {"W": 1536, "F": 8960, "C": 16, "O": 64},
    ),
)

# ---- Anima, Cosmos-Predict2 ----


def _modulation(original: str, name: str) -> tuple[Weight, Weight]:
    """The two matrices of a block's modulation, 256 between them."""
    return (
        Weight(f"adaln_modulation_{original}.1", f"{name}.linear_1", "256 W", trained=False),
        Weight(f"adaln_modulation_{original}.2", f"{name}.linear_2", "3W 256", trained=False),
    )


_COSMOS_BLOCK = (
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
_COSMOS_OUTER = (
    Weight("x_embedder.proj.1", "patch_embed.proj", "W P", trained=False),
    Weight("t_embedder.1.linear_1", "time_embed.t_embedder.linear_1", "W W", trained=False),
    Weight("t_embedder.1.linear_2", "time_embed.t_embedder.linear_2", "3W W", trained=False),
    Weight("t_embedding_norm", "time_embed.norm", "W", trained=False),
    Weight("final_layer.linear", "proj_out", "64 W", trained=False),
    Weight("final_layer.adaln_modulation.1", "norm_out.linear_1", "256 W", trained=False),
    Weight("final_layer.adaln_modulation.2", "norm_out.linear_2", "2W 256", trained=False),
)
_ANIMA_ADAPTER = (
    *(_same(f"{kind}_attn.{part}_proj", "A A") for kind in ("self", "cross") for part in "qkvo"),
    _same("mlp.0", "4A A"),
    _same("mlp.2", "A 4A"),
)

COSMOS = BlockTransformer(
    containers=(Container("blocks", "transformer_blocks", 36, _COSMOS_BLOCK, block="blocks"),),
    outer=_COSMOS_OUTER,
    sizes=({"W": 5120, "H": 128, "P": 72}, {"W": 2048, "H": 128, "P": 72}),
)
ANIMA = BlockTransformer(
    containers=(
        Container("llm_adapter.blocks", "blocks", 6, _ANIMA_ADAPTER, "text_conditioner", "adapter"),
        Container("blocks", "transformer_blocks", 28, _COSMOS_BLOCK, block="blocks"),
    ),
    outer=_COSMOS_OUTER,
    sizes=({"W": 2048, "H": 128, "P": 68, "A": 1024},),
)
